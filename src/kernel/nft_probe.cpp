// SPDX-License-Identifier: Apache-2.0
#include <sys/utsname.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/probe.hpp"
#include "trireme/kernel/queue.hpp"

namespace trireme::kernel {
namespace {

constexpr const char* kTable = "trireme_probe";
constexpr const char* kChain = "probe";

/// Adds a table with the rule and deletes it, in one transaction: the kernel validates the rule,
/// and no packet ever traverses it.
Status attempt(NftSocket& socket, const NftRule& rule) {
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_chain(kChain);
  batch.add_rule(kChain, rule);
  batch.delete_table();
  return socket.commit(std::move(batch));
}

Status attempt(NftSocket& socket, QueueMechanism mechanism) {
  NftRule rule;
  rule.queue(mechanism, 0);
  return attempt(socket, rule);
}

}  // namespace

std::pair<int, int> release_version(std::string_view release) {
  std::pair<int, int> result;
  const char* end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, result.first);
  if (major.ec == std::errc() && major.ptr != end) {
    std::from_chars(major.ptr + 1, end, result.second);
  }
  return result;
}

Result<std::pair<int, int>> running_version() {
  utsname kernel{};
  if (::uname(&kernel) != 0) {
    return fail_errno("cannot read the version of the kernel");
  }
  return release_version(kernel.release);
}

const char* text(QueueMechanism mechanism) {
  return mechanism == QueueMechanism::native ? "nf_tables queue" : "xtables NFQUEUE target";
}

Result<QueueMechanism> probe_queue() {
  auto socket = NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  if (attempt(*socket, QueueMechanism::native)) {
    return QueueMechanism::native;
  }
  const Status target = attempt(*socket, QueueMechanism::target);
  if (!target) {
    return fail("nf_tables rules cannot pass packets to user space: " + target.error().message,
                "the kernel needs CONFIG_NFT_QUEUE, or CONFIG_NETFILTER_XT_TARGET_NFQUEUE and "
                "CONFIG_NFT_COMPAT");
  }
  return QueueMechanism::target;
}

/// Compares the version of the kernel: one without NFQA_PRIORITY accepts such a verdict, ignores
/// the attribute and reports no error.
Status probe_queue_priority() {
  constexpr std::pair kFirst(5, 18);
  utsname kernel{};
  if (::uname(&kernel) != 0) {
    return fail_errno("cannot read the version of the kernel");
  }
  return release_version(kernel.release) >= kFirst
             ? Status{}
             : Status(
                   fail("Linux 5.18 or later is required; this is " + std::string(kernel.release)));
}

Status probe_socket_cgroup() {
  auto socket = NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  NftRule rule;
  rule.socket_level(1, 0);
  const Status known = attempt(*socket, rule);
  return known ? known
               : Status(fail("nf_tables cannot match the cgroup of a packet's socket ('socket "
                             "cgroupv2'): " +
                                 known.error().message,
                             "Linux 5.13 or later with CONFIG_NFT_SOCKET and "
                             "CONFIG_SOCK_CGROUP_DATA is required"));
}

}  // namespace trireme::kernel
