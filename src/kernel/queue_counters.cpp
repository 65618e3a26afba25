// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/queue_counters.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>

namespace trireme::kernel {

Result<QueueCounters> QueueCounters::open() {
  Fd file(::open("/proc/thread-self/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return fail_errno("cannot read the counters of nfnetlink_queue");
  }
  return QueueCounters(std::move(file));
}

/// Each line has NUMBER PORT WAITING MODE RANGE DROPPED USER_DROPPED ...
/// (net/netfilter/nfnetlink_queue.c, seq_show).
std::vector<QueueCounter> QueueCounters::read() const {
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t size = 0; (size = ::pread(file_.get(), part.data(), part.size(),
                                         static_cast<off_t>(text.size()))) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(size));
  }
  std::vector<QueueCounter> counters;
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos;
       at = end + 1) {
    unsigned number = 0;
    unsigned waiting = 0;
    unsigned full = 0;
    unsigned unsent = 0;
    if (std::sscanf(text.c_str() + at, "%u %*u %u %*u %*u %u %u", &number, &waiting, &full,
                    &unsent) == 4) {
      counters.push_back(
          {static_cast<std::uint16_t>(number), waiting, std::uint64_t{full} + unsent});
    }
  }
  return counters;
}

}  // namespace trireme::kernel
