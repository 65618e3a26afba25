// SPDX-License-Identifier: Apache-2.0
// Runs the [[test]] entries of a policy.
#pragma once

#include "reporter.hpp"

namespace trireme::config {

/// Reports every test that fails. Evaluates the policy as if `[defaults] mode` were "enforce",
/// because in audit mode nothing is denied and tests with expect = "deny" could not pass.
void run_tests(const policy::Policy& policy, Reporter& reporter);

}  // namespace trireme::config
