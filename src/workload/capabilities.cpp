// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/capabilities.hpp"

#include <algorithm>
#include <cctype>

#include "trireme/config/host.hpp"

namespace trireme::workload {
namespace {

std::string plain(std::string name) {
  std::ranges::transform(name, name.begin(), [](char c) {
    return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  });
  return name.starts_with("CAP_") ? name.substr(4) : name;
}

bool names(const std::vector<std::string>& list, const std::string& capability) {
  return std::ranges::any_of(list,
                             [&](const std::string& name) { return plain(name) == capability; });
}

/// Applies the same rules as Docker (oci/caps/utils.go, TweakCapabilities).
bool may_hold(const ContainerCapabilities& capabilities, const std::string& name, bool by_default) {
  if (names(capabilities.add, "ALL")) {
    return !names(capabilities.drop, name);
  }
  return names(capabilities.add, name) ||
         (by_default && !names(capabilities.drop, name) && !names(capabilities.drop, "ALL"));
}

}  // namespace

std::vector<std::string> container_warnings(const ContainerCapabilities& capabilities,
                                            const std::vector<std::string>& held) {
  if (capabilities.privileged) {
    return {"privileged: can do anything to this host"};
  }
  struct Meaning {
    const char* capability;
    bool by_default;
    const char* warning;
  };
  static constexpr Meaning kMeanings[] = {
      {"NET_ADMIN", false, "may gain CAP_NET_ADMIN: could remove the rules"},
      {"NET_RAW", true,
       "may gain CAP_NET_RAW: could send frames below the rules, and sniff ('docker run "
       "--cap-drop NET_RAW' prevents it)"},
      {"SYS_ADMIN", false, "may gain CAP_SYS_ADMIN: could rewrite labels and leave its cgroup"},
      {"SYS_PTRACE", false, "may gain CAP_SYS_PTRACE: could act through other processes"},
      {"SYS_MODULE", false, "may gain CAP_SYS_MODULE: could change the kernel"},
  };
  std::vector<std::string> warnings;
  for (const Meaning& meaning : kMeanings) {
    const std::string name = meaning.capability;
    const bool is_reported = std::ranges::any_of(
        held, [&](const std::string& line) { return line.starts_with("CAP_" + name + ":"); });
    if (may_hold(capabilities, name, meaning.by_default) && !is_reported) {
      warnings.emplace_back(meaning.warning);
    }
  }
  if (capabilities.has_host_pids) {
    warnings.emplace_back("host PID namespace: can act through other processes of its user");
  }
  if (capabilities.has_docker_socket) {
    warnings.emplace_back("has Docker's socket: can start containers with any labels, or none");
  }
  return warnings;
}

std::string_view capability_of(std::string_view warning) {
  constexpr std::string_view kMayGain = "may gain ";
  if (warning.starts_with(kMayGain)) {
    warning.remove_prefix(kMayGain.size());
  }
  const std::string_view name = warning.substr(0, warning.find(':'));
  const auto* const known = std::ranges::find(config::kCapabilities, name);
  return known == config::kCapabilities.end() ? std::string_view() : *known;
}

}  // namespace trireme::workload
