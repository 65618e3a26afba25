// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/seen_names.hpp"

#include <algorithm>

namespace trireme::enforcer {

void SeenNames::add(abi::Number asker, const policy::Address& address, const std::string& name) {
  Share& share = shares_[asker];
  if (!share.names.insert_or_assign(address, name).second) {
    return;
  }
  share.order.push_back(address);
  if (++size_ <= kMost) {
    return;
  }
  const auto largest = std::ranges::max_element(
      shares_, {}, [](const auto& item) { return item.second.names.size(); });
  Share& loser = largest->second;
  loser.names.erase(loser.order.front());
  loser.order.pop_front();
  size_--;
  if (loser.names.empty()) {
    shares_.erase(largest);
  }
}

const std::string* SeenNames::find(abi::Number asker, const policy::Address& address) const {
  const auto share = shares_.find(asker);
  if (share == shares_.end()) {
    return nullptr;
  }
  const auto found = share->second.names.find(address);
  return found == share->second.names.end() ? nullptr : &found->second;
}

}  // namespace trireme::enforcer
