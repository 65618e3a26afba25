// SPDX-License-Identifier: Apache-2.0
// Everything doubtful in a configuration: the warnings of a load, and what only lint looks for.
#pragma once

#include <vector>

#include "trireme/config/loader.hpp"

namespace trireme::config {

/// The diagnostics of the configuration, with all findings of policy::lint(). `present`: the label
/// sets of the workloads that exist now, if they are known. If the policy has errors, only the
/// diagnostics.
[[nodiscard]] std::vector<Diagnostic> lint(const Configuration& configuration,
                                           const std::vector<policy::LabelSet>& present);

}  // namespace trireme::config
