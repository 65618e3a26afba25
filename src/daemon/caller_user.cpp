// SPDX-License-Identifier: Apache-2.0
#include "caller_user.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <charconv>
#include <cstdint>

#include "trireme/base/file.hpp"
#include "trireme/base/users.hpp"

namespace trireme::daemon {
namespace {

/// False also if it is not known.
bool still_runs(const control::Caller& caller) {
  pollfd poll{caller.pidfd.get(), POLLIN, 0};
  return caller.pid > 0 && caller.pidfd.valid() && ::poll(&poll, 1, 0) == 0;
}

uid_t login_of(const control::Caller& caller) {
  constexpr std::uint32_t kUnset = UINT32_MAX;
  std::uint32_t uid = kUnset;
  if (const auto text = read_file(fmt::format("/proc/{}/loginuid", caller.pid))) {
    std::from_chars(text->data(), text->data() + text->size(), uid);
  }
  // After the file was read: the pid of a caller that has ended can belong to another user's
  // process.
  return uid == kUnset || !still_runs(caller) ? caller.uid : uid;
}

}  // namespace

std::string user_of(const control::Caller& caller) {
  const uid_t uid = login_of(caller);
  return local_user(uid).value_or(fmt::format("uid {}", uid));
}

}  // namespace trireme::daemon
