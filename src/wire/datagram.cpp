// SPDX-License-Identifier: Apache-2.0
#include "trireme/wire/datagram.hpp"

#include <algorithm>

#include "build.hpp"
#include "bytes.hpp"
#include "layout.hpp"
#include "upper.hpp"

namespace trireme::wire {

bool is_datagram(std::span<const std::uint8_t> packet, std::size_t length) {
  return find_upper(packet, length, kUdp).has_value();
}

tl::expected<Datagram, Malformed> Datagram::parse(std::span<const std::uint8_t> packet,
                                                  std::size_t length) {
  const auto found = find_upper(packet, length, kUdp);
  if (!found) {
    return tl::unexpected(found.error());
  }
  if (packet.size() - found->offset < kUdpHeader) {
    return tl::unexpected(Malformed::truncated);
  }
  const std::size_t room = length - found->offset;
  const std::size_t said = read16(packet, found->offset + udp::kLength);
  const std::size_t size =
      said == 0 && room > 0xFFFF ? room : said;  // RFC 2675, section 4; segmentation offload
  if (size < kUdpHeader || size > room) {
    return tl::unexpected(Malformed::bad_length);
  }
  Datagram datagram;
  datagram.packet_ = packet;
  datagram.length_ = length;
  datagram.udp_ = found->offset;
  datagram.data_size_ = size - kUdpHeader;
  return datagram;
}

Ends Datagram::ends() const {
  return ends_of(packet_, udp_);
}

std::span<const std::uint8_t> Datagram::payload() const {
  const auto data = packet_.subspan(udp_ + kUdpHeader);
  return data.first(std::min(data.size(), data_size_));
}

std::uint8_t Datagram::traffic_class() const {
  return traffic_class_of(packet_);
}

std::uint32_t Datagram::flow_label() const {
  return flow_label_of(packet_);
}

void write_datagram(const Ends& ends, std::uint8_t traffic_class, std::uint32_t flow_label,
                    std::span<const std::uint8_t> data, PacketBuffer& out) {
  const std::size_t udp = write_ip({ends, kUdp, traffic_class, flow_label}, out);
  const std::span<std::uint8_t> header(out.bytes.data() + udp, kUdpHeader);
  write16(header, udp::kSourcePort, ends.source_port);
  write16(header, udp::kDestinationPort, ends.destination_port);
  std::copy(data.begin(), data.end(),
            out.bytes.begin() + static_cast<std::ptrdiff_t>(udp + kUdpHeader));
  out.size = udp + kUdpHeader + data.size();
  finish(out, udp, kUdp);
}

void write_sink(const Datagram& datagram, PacketBuffer& out) {
  Ends ends = datagram.ends();
  ends.destination_port = 0;
  write_datagram(ends, 0, datagram.flow_label(), {}, out);
  const std::size_t checksum = out.size - kUdpHeader + udp::kChecksum;
  const std::uint16_t wrong = read16(out.view(), checksum) ^ 0x5555U;
  write16(std::span(out.bytes), checksum, wrong == 0 ? 0x5554U : wrong);
}

}  // namespace trireme::wire
