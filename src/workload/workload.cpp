// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/workload.hpp"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "trireme/base/file.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::workload {
namespace {

constexpr std::uint64_t bit(unsigned capability) {
  return std::uint64_t{1} << capability;
}

bool in_other_user_namespace(const std::string& process) {
  struct stat own {};
  struct stat other {};
  return ::stat("/proc/self/ns/user", &own) == 0 &&
         ::stat((process + "/ns/user").c_str(), &other) == 0 && own.st_ino != other.st_ino;
}

/// A mask of the capabilities that can bypass the rules. All of them can if the process is in the
/// daemon's user namespace, which owns the host's network namespace and those created from it. In
/// another user namespace, which may own the workload's network namespace, only two can.
std::uint64_t meaningful(std::uint32_t pid, const std::string& process,
                         const kernel::Netns* network) {
  if (!in_other_user_namespace(process)) {
    return ~std::uint64_t{0};
  }
  return network != nullptr && network_of_process(pid) == network->inode()
             ? bit(CAP_NET_ADMIN) | bit(CAP_NET_RAW)
             : 0;
}

std::uint64_t permitted_capabilities(const std::string& status) {
  constexpr std::string_view kField = "\nCapPrm:\t";
  const std::size_t at = status.find(kField);
  std::uint64_t mask = 0;
  if (at != std::string::npos) {
    const char* digits = status.data() + at + kField.size();
    std::from_chars(digits, status.data() + status.size(), mask, 16);
  }
  return mask;
}

}  // namespace

const char* text(Kind kind) {
  switch (kind) {
    case Kind::process:
      return "process";
    case Kind::container:
      return "container";
    case Kind::unit:
      return "unit";
  }
  return "?";
}

const char* text(State state) {
  switch (state) {
    case State::enforced:
      return "enforced";
    case State::quarantined:
      return "quarantined";
    case State::unenforced:
      return "unenforced";
  }
  return "?";
}

std::string strict_slice(const std::string& runtime_dir) {
  if (runtime_dir == TRIREME_RUNTIMEDIR) {
    return "/trireme.slice";
  }
  return fmt::format("/trireme-{:016x}.slice", std::hash<std::string>{}(runtime_dir));
}

bool Workload::is_in(const std::shared_ptr<const kernel::Netns>& network) const {
  return std::ranges::any_of(
      places, [&](const Place& place) { return is_same_network(place.network, network); });
}

const char* network_text(const Workload& workload) {
  if (workload.places.empty()) {
    return nullptr;
  }
  const Place& first = workload.places.front();
  return !first.network ? "host" : first.whole_network ? "own" : "shared";
}

std::vector<std::string> capability_warnings(std::uint32_t pid, const kernel::Netns* network) {
  struct Meaning {
    unsigned capability;
    const char* warning;
  };
  static constexpr Meaning kMeanings[] = {
      {CAP_NET_ADMIN, "CAP_NET_ADMIN: can remove the rules"},
      {CAP_NET_RAW, "CAP_NET_RAW: can send frames below the rules, and sniff"},
      {CAP_SYS_ADMIN, "CAP_SYS_ADMIN: can rewrite labels and leave its cgroup"},
      {CAP_SYS_PTRACE, "CAP_SYS_PTRACE: can act through other processes"},
      {CAP_SYS_MODULE, "CAP_SYS_MODULE: can change the kernel"},
  };
  std::vector<std::string> warnings;
  const std::string process = "/proc/" + std::to_string(pid);
  const auto status = read_file(process + "/status");
  if (!status) {
    return warnings;
  }
  const std::uint64_t held = permitted_capabilities(*status) & meaningful(pid, process, network);
  for (const Meaning& meaning : kMeanings) {
    if ((held & bit(meaning.capability)) != 0) {
      warnings.emplace_back(meaning.warning);
    }
  }
  return warnings;
}

}  // namespace trireme::workload
