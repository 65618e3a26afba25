#include "trireme/policy/identity.hpp"

namespace trireme::policy {

bool LaunchGrant::permits(const LabelSet& requested) const {
  return cover(labels, requested);
}

}  // namespace trireme::policy
