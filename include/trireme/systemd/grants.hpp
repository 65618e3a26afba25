// Who besides root may launch, with which labels and properties.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/policy/identity.hpp"

namespace trireme::systemd {

/// [[launch]] entries, their names resolved once; names that do not exist (yet) are looked up again at each request. A user or group may be
/// a number.
class LaunchGrants {
 public:
  void configure(std::shared_ptr<const policy::Identity> identity);

  /// One grant, by user or by one of the groups, covers every label. The error says what is missing.
  [[nodiscard]] Status permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups, const policy::LabelSet& labels) const;

 private:
  using Ids = std::map<std::string, std::uint32_t, std::less<>>;

  std::shared_ptr<const policy::Identity> identity_;
  mutable Ids users_;
  mutable Ids groups_;
};

/// Properties that a caller other than root may set: Description, CPUQuota, CPUWeight, MemoryMax, MemoryHigh, TasksMax, RuntimeMaxSec,
/// IOWeight.
[[nodiscard]] bool property_granted(const std::string& name);

/// The user's name, or "uid-1000" where it has none or one that is no part of a unit name.
[[nodiscard]] std::string unit_prefix(std::uint32_t uid);

}  // namespace trireme::systemd
