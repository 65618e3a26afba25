// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/packet_log.hpp"

#include <libmnl/libmnl.h>
#include <netinet/in.h>
#include <sys/socket.h>
// These kernel headers must come after netinet/in.h.
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>

#include <array>
#include <cstring>
#include <span>

#include "netlink.hpp"

namespace trireme::kernel {

namespace {

constexpr std::uint32_t kCopyBytes = 128;  // of each packet: IP header and ports
constexpr std::uint32_t kLoopback = 1;     // ifindex of lo

std::uint16_t be16(std::span<const std::uint8_t> bytes, std::size_t offset) {
  return static_cast<std::uint16_t>(bytes[offset] << 8U | bytes[offset + 1]);
}

policy::Address address(std::span<const std::uint8_t> bytes, std::size_t offset, std::size_t size) {
  policy::Address result;
  result.family = size == 4 ? policy::Address::Family::v4 : policy::Address::Family::v6;
  std::memcpy(result.bytes.data(), bytes.data() + offset, size);
  return result;
}

/// Ports, or what identifies a flow of ICMP.
void read_ports(std::span<const std::uint8_t> bytes, std::size_t offset, LoggedPacket& packet) {
  if ((packet.protocol == IPPROTO_TCP || packet.protocol == IPPROTO_UDP) &&
      bytes.size() >= offset + 4) {
    packet.tuple.source_port = be16(bytes, offset);
    packet.tuple.destination_port = be16(bytes, offset + 2);
  }
  if ((packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6) &&
      bytes.size() >= offset + 8) {
    packet.icmp_type = bytes[offset];
    packet.icmp_code = bytes[offset + 1];
    packet.icmp_id = be16(bytes, offset + 4);
  }
}

/// Skips IPv6 extension headers (RFC 8200). Returns the offset of the upper-layer header, or the
/// size of the packet if it is cut off before.
std::size_t skip_extensions(std::span<const std::uint8_t> bytes, std::uint8_t& protocol) {
  std::size_t offset = 40;
  while (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
         protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT) {
    if (bytes.size() < offset + 8) {
      return bytes.size();
    }
    const std::size_t length = protocol == IPPROTO_FRAGMENT ? 8 : (bytes[offset + 1] + 1U) * 8U;
    protocol = bytes[offset];
    offset += length;
  }
  return std::min(offset, bytes.size());
}

bool read_packet(std::span<const std::uint8_t> bytes, LoggedPacket& packet) {
  const unsigned version = bytes.empty() ? 0 : bytes[0] >> 4U;
  if (version == 4 && bytes.size() >= 20) {
    packet.protocol = bytes[9];
    packet.tuple.source = address(bytes, 12, 4);
    packet.tuple.destination = address(bytes, 16, 4);
    read_ports(bytes, (bytes[0] & 15U) * std::size_t{4}, packet);
    return true;
  }
  if (version == 6 && bytes.size() >= 40) {
    packet.protocol = bytes[6];
    packet.tuple.source = address(bytes, 8, 16);
    packet.tuple.destination = address(bytes, 24, 16);
    const std::size_t offset = skip_extensions(bytes, packet.protocol);
    read_ports(bytes, offset, packet);
    return true;
  }
  return false;
}

int on_attribute(const nlattr* attribute, void* data) {
  auto& table = *static_cast<std::array<const nlattr*, NFULA_MAX + 1>*>(data);
  if (mnl_attr_type_valid(attribute, NFULA_MAX) > 0) {
    table.at(mnl_attr_get_type(attribute)) = attribute;
  }
  return MNL_CB_OK;
}

bool read_message(const nlmsghdr* header, LoggedPacket& packet) {
  std::array<const nlattr*, NFULA_MAX + 1> table{};
  mnl_attr_parse(header, sizeof(nfgenmsg), on_attribute, &table);
  if (table.at(NFULA_PAYLOAD) == nullptr || table.at(NFULA_PACKET_HDR) == nullptr ||
      mnl_attr_get_payload_len(table.at(NFULA_PACKET_HDR)) < sizeof(nfulnl_msg_packet_hdr)) {
    return false;
  }
  const auto* description =
      static_cast<const nfulnl_msg_packet_hdr*>(mnl_attr_get_payload(table.at(NFULA_PACKET_HDR)));
  packet.input = description->hook == NF_INET_LOCAL_IN;
  const nlattr* device = table.at(packet.input ? NFULA_IFINDEX_INDEV : NFULA_IFINDEX_OUTDEV);
  packet.loopback = device != nullptr && ntohl(mnl_attr_get_u32(device)) == kLoopback;
  if (table.at(NFULA_PREFIX) != nullptr) {
    const auto* text = static_cast<const char*>(mnl_attr_get_payload(table.at(NFULA_PREFIX)));
    packet.prefix.assign(text, ::strnlen(text, mnl_attr_get_payload_len(table.at(NFULA_PREFIX))));
  }
  return read_packet(
      {static_cast<const std::uint8_t*>(mnl_attr_get_payload(table.at(NFULA_PAYLOAD))),
       mnl_attr_get_payload_len(table.at(NFULA_PAYLOAD))},
      packet);
}

Status configure(const Fd& fd, std::uint16_t group,
                 const std::function<void(nlmsghdr*)>& attributes) {
  std::array<char, 512> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = NFNL_SUBSYS_ULOG << 8U | NFULNL_MSG_CONFIG;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  auto* generic = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  generic->nfgen_family = AF_UNSPEC;
  generic->version = NFNETLINK_V0;
  generic->res_id = htons(group);
  attributes(header);
  const std::string what = "cannot bind nfnetlink_log group " + std::to_string(group);
  return netlink::confirm(fd, header, what.c_str());
}

}  // namespace

Result<PacketLog> PacketLog::open(std::uint16_t group) {
  auto fd = netlink::open(NETLINK_NETFILTER, "nfnetlink_log");
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  const int size = 1 << 20;
  (void)::setsockopt(fd->get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  Status bound = configure(*fd, group, [](nlmsghdr* header) {
    const nfulnl_msg_config_cmd command{.command = NFULNL_CFG_CMD_BIND};
    mnl_attr_put(header, NFULA_CFG_CMD, sizeof command, &command);
  });
  if (bound) {
    bound = configure(*fd, group, [](nlmsghdr* header) {
      nfulnl_msg_config_mode mode{};
      mode.copy_range = htonl(kCopyBytes);
      mode.copy_mode = NFULNL_COPY_PACKET;
      mnl_attr_put(header, NFULA_CFG_MODE, sizeof mode, &mode);
      // One packet per message, sent at once, so that a refusal is reported when it happens.
      mnl_attr_put_u32(header, NFULA_CFG_QTHRESH, htonl(1));
    });
  }
  if (!bound) {
    return tl::unexpected(bound.error());
  }
  return PacketLog(std::move(*fd));
}

std::vector<LoggedPacket> PacketLog::drain(std::size_t limit) {
  std::vector<LoggedPacket> packets;
  std::array<char, 16384> buffer{};
  const auto read = [&packets](const nlmsghdr* header) {
    LoggedPacket packet;
    if (header->nlmsg_type == (NFNL_SUBSYS_ULOG << 8U | NFULNL_MSG_PACKET) &&
        read_message(header, packet)) {
      packets.push_back(std::move(packet));
    }
  };
  while (packets.size() < limit) {
    const auto received = netlink::receive(fd_, buffer, netlink::Wait::no, read);
    if (!received || *received == netlink::Received::nothing) {
      break;
    }
    lost_ += *received == netlink::Received::overrun ? 1U : 0U;
  }
  return packets;
}

}  // namespace trireme::kernel
