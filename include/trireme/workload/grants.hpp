// Who besides root may launch, with which labels and properties.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/policy/identity.hpp"

namespace trireme::workload {

/// [[launch]] entries with their names resolved. Names that do not exist (yet) are looked up again at each request.
class LaunchGrants {
 public:
  void configure(std::shared_ptr<const policy::Identity> identity);

  /// One grant, by user or by one of the groups, covers every label. The error says what is missing.
  [[nodiscard]] Status permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups, const policy::LabelSet& labels) const;

 private:
  std::shared_ptr<const policy::Identity> identity_;
};

/// Properties that a caller other than root may set: Description, CPUQuota, CPUWeight, MemoryMax, MemoryHigh, TasksMax, RuntimeMaxSec,
/// IOWeight.
[[nodiscard]] bool property_granted(const std::string& name);

/// The user's name, or "uid-1000" where it has none or one that is no part of a unit name.
[[nodiscard]] std::string unit_prefix(std::uint32_t uid);

}  // namespace trireme::workload
