// SPDX-License-Identifier: Apache-2.0
// Which users besides root may start workloads, and with which labels and properties.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/config/host.hpp"

namespace trireme::systemd {

/// Lookups of names, which can block for long. nullopt: unknown, or no answer.
struct NameService {
  std::function<std::optional<std::uint32_t>(const std::string& name)> user_id;
  std::function<std::optional<std::uint32_t>(const std::string& name)> group_id;
  std::function<std::optional<std::string>(std::uint32_t uid)> user_name;
};
/// That of this host (nsswitch.conf(5)).
[[nodiscard]] NameService host_names();

/// [[launch]] entries. User and group names are resolved at load. Unknown ones are retried only
/// after a pause of 5 s, or of nine times as long as the last attempt took: NSS can be slow, the
/// daemon's loop waits for it, and any user can trigger a lookup. A user or group may be given as a
/// number.
class LaunchGrants {
 public:
  explicit LaunchGrants(NameService names = host_names()) : service_(std::move(names)) {}

  void configure(std::shared_ptr<const config::Host> host);

  /// Succeeds if a single grant, to the user or to one of `groups`, covers all of `labels`. The
  /// error says what is missing.
  [[nodiscard]] Status permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups,
                               const policy::LabelSet& labels);

  /// What the names of units begin with that a permitted user launches: the user's name, or
  /// "uid-1000" if the user has no name or the name is not valid in a unit name. Asks for a name
  /// only if neither /etc/passwd nor an entry has it, once for each user; again after a failure
  /// only after the same pause.
  [[nodiscard]] std::string unit_prefix(std::uint32_t uid);

 private:
  using Clock = std::chrono::steady_clock;

  void resolve();
  [[nodiscard]] std::optional<std::string> name_of(std::uint32_t uid);

  NameService service_;
  std::shared_ptr<const config::Host> host_;
  std::vector<std::optional<std::uint32_t>> ids_;  // per entry: uid or gid; nullopt while unknown
  Clock::time_point resolve_again_;                // the earliest time
  std::map<std::uint32_t, std::string> names_;     // by uid, those that were asked for
  Clock::time_point ask_again_;                    // the earliest time to ask for a name
};

/// True for the properties that a caller other than root may set: Description, CPUQuota, CPUWeight,
/// MemoryMax, MemoryHigh, TasksMax, RuntimeMaxSec, IOWeight.
[[nodiscard]] bool property_granted(const std::string& name);

}  // namespace trireme::systemd
