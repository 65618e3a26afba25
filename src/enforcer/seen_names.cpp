// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/seen_names.hpp"

namespace trireme::enforcer {

void SeenNames::add(const policy::Address& address, const std::string& name) {
  if (!names_.insert_or_assign(address, name).second) {
    return;
  }
  order_.push_back(address);
  if (order_.size() > kMost) {
    names_.erase(order_.front());
    order_.pop_front();
  }
}

const std::string* SeenNames::find(const policy::Address& address) const {
  const auto found = names_.find(address);
  return found == names_.end() ? nullptr : &found->second;
}

}  // namespace trireme::enforcer
