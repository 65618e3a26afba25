// SPDX-License-Identifier: Apache-2.0
// Runs the [[test]] entries of a policy.
#pragma once

#include "reporter.hpp"

namespace trireme::config {

/// Reports every test whose answer is not the expected one. Judged as if `[defaults] mode` were
/// enforce: a trial run must not turn tests green.
void run_tests(const policy::Policy& policy, Reporter& reporter);

}  // namespace trireme::config
