// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/identity.hpp"

namespace trireme::policy {

bool LaunchGrant::permits(const LabelSet& requested) const {
  return cover(labels, requested);
}

}  // namespace trireme::policy
