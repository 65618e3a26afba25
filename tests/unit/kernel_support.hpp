// SPDX-License-Identifier: Apache-2.0
// A network namespace for a test, with lo up and a socket to its nf_tables; functions that build
// packets. Needs root.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
// These kernel headers must come after netinet/in.h.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

inline constexpr const char* kTestTable = "trireme_unit";
inline constexpr int kPatience = 10'000;  // ms, until an expected event counts as missing

inline void bring_lo_up(int mtu = 65536) {
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  request.ifr_mtu = mtu;
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFMTU, &request), 0);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
}

/// Runs a shell command. Returns its exit status; -1 if a signal ended it.
inline int run(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline bool readable(int fd, int milliseconds = kPatience) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, milliseconds) == 1 && (entry.revents & POLLIN) != 0;
}

class NamespaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    bring_lo_up();
    auto nft = NftSocket::open();
    ASSERT_TRUE(nft) << nft.error().text();
    nft_ = std::make_unique<NftSocket>(std::move(*nft));
  }
  void commit(NftBatch&& batch) {
    const Status done = nft_->commit(std::move(batch));
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(run("nft list ruleset > /dev/null 2>&1"), 0) << "nft can list the ruleset";
  }
  std::size_t count(const std::string& set) { return keys(set).size(); }
  std::vector<std::vector<std::uint8_t>> keys(const std::string& set) {
    return nft_->keys(kTestTable, set).value_or(std::vector<std::vector<std::uint8_t>>{});
  }
  std::vector<std::uint32_t> numbers(const std::string& set) {
    std::vector<std::uint32_t> list;
    for (const auto& key : keys(set)) {
      std::memcpy(&list.emplace_back(), key.data(), std::min(key.size(), sizeof(std::uint32_t)));
    }
    return list;
  }

  std::unique_ptr<NftSocket> nft_;
};

/// A set to which rules add elements.
inline NftSet seen(const std::string& name, SetType type = SetType::mark,
                   std::uint32_t key_size = 4) {
  return {.name = name,
          .key_types = {type},
          .key_size = key_size,
          .data_types = {},
          .dynamic_timeout_ms = 600'000,
          .size = 100};
}

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] std::uint16_t port() const {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  }
};

/// A loopback address of this host.
inline Endpoint loopback(int family, std::uint16_t port) {
  Endpoint result;
  result.size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  result.storage.ss_family = static_cast<sa_family_t>(family);
  reinterpret_cast<sockaddr_in*>(&result.storage)->sin_port =
      htons(port);  // sin6_port has the same offset
  if (family == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&result.storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    reinterpret_cast<sockaddr_in6*>(&result.storage)->sin6_addr = in6addr_loopback;
  }
  return result;
}

inline Fd bound(int family, int type, std::uint16_t port) {
  Fd fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const Endpoint own = loopback(family, port);
  EXPECT_EQ(::bind(fd.get(), own.get(), own.size), 0) << std::strerror(errno);
  return fd;
}

/// What has already arrived; does not wait.
inline std::string received(const Fd& fd) {
  std::array<char, 65536> buffer{};
  const ssize_t size = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  return size > 0 ? std::string(buffer.data(), static_cast<std::size_t>(size)) : std::string();
}

/// All datagrams that have arrived, in order.
inline std::string all_received(const Fd& fd) {
  std::string all;
  for (std::string each = received(fd); !each.empty(); each = received(fd)) {
    all += each;
  }
  return all;
}

using Packet = std::vector<std::uint8_t>;

inline std::uint16_t internet_checksum(std::span<const std::uint8_t> bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i++) {
    sum += static_cast<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8U : 0U);
  }
  while (sum >> 16U != 0) {
    sum = (sum & 0xffffU) + (sum >> 16U);
  }
  return static_cast<std::uint16_t>(~sum);
}

inline void put16(Packet& packet, std::size_t at, std::size_t value) {
  packet.at(at) = static_cast<std::uint8_t>(value >> 8U);
  packet.at(at + 1) = static_cast<std::uint8_t>(value);
}

/// Adds an IP header before `upper`, and writes the checksum of `upper` at its offset
/// `checksum_at`.
inline Packet ip_packet(const policy::Address& source, const policy::Address& destination,
                        std::uint8_t protocol, Packet upper, std::size_t checksum_at) {
  const bool v4 = source.family == policy::Address::Family::v4;
  const auto addresses = [&](Packet& to) {
    to.insert(to.end(), source.bytes.begin(),
              source.bytes.begin() + static_cast<std::ptrdiff_t>(source.size()));
    to.insert(to.end(), destination.bytes.begin(),
              destination.bytes.begin() + static_cast<std::ptrdiff_t>(destination.size()));
  };
  Packet pseudo;
  addresses(pseudo);
  pseudo.insert(pseudo.end(), {0, protocol, 0, 0});
  put16(pseudo, pseudo.size() - 2, upper.size());
  pseudo.insert(pseudo.end(), upper.begin(), upper.end());
  put16(upper, checksum_at, internet_checksum(pseudo));
  Packet packet = v4 ? Packet{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
                     : Packet{0x60, 0, 0, 0, 0, 0, protocol, 64};
  addresses(packet);
  if (v4) {
    put16(packet, 2, packet.size() + upper.size());
    put16(packet, 10, internet_checksum(packet));
  } else {
    put16(packet, 4, upper.size());
  }
  packet.insert(packet.end(), upper.begin(), upper.end());
  return packet;
}

inline Packet udp_packet(const policy::Address& source, const policy::Address& destination,
                         std::uint16_t source_port, std::uint16_t destination_port,
                         const std::string& text) {
  Packet upper(8);
  put16(upper, 0, source_port);
  put16(upper, 2, destination_port);
  put16(upper, 4, 8 + text.size());
  upper.insert(upper.end(), text.begin(), text.end());
  return ip_packet(source, destination, IPPROTO_UDP, std::move(upper), 6);
}

}  // namespace trireme::kernel
