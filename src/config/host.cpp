// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/host.hpp"

namespace trireme::config {

bool LaunchGrant::permits(const policy::LabelSet& requested) const {
  return policy::cover(labels, requested);
}

}  // namespace trireme::config
