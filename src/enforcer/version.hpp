// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "name_book.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::enforcer {

/// One policy as an enforcement point applies it: the compiler's sets over everything enrolled
/// here, and the addresses of DNS names in the policy's networks. A reload prepares another version
/// and replaces this one with a single assignment.
struct Enforcer::Version {
  std::shared_ptr<const policy::Policy> policy;
  policy::Compiler compiler;
  NameBook names;
};

}  // namespace trireme::enforcer
