// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/numbers.hpp"

#include <algorithm>

namespace trireme::policy {

std::optional<Number> Numbers::take() {
  const std::scoped_lock lock(mutex_);
  for (Number tries = abi::kFirstNumber; tries <= abi::kLastNumber; tries++) {
    last_ = last_ >= abi::kLastNumber ? abi::kFirstNumber : last_ + 1;
    if (used_.emplace(last_, 1).second) {
      return last_;
    }
  }
  return std::nullopt;
}

bool Numbers::take(Number number) {
  const std::scoped_lock lock(mutex_);
  if (number < abi::kFirstNumber || number > abi::kLastNumber || !used_.emplace(number, 1).second) {
    return false;
  }
  last_ = std::max(last_, number);
  return true;
}

bool Numbers::share(Number number) {
  const std::scoped_lock lock(mutex_);
  const auto held = used_.find(number);
  if (held == used_.end()) {
    return false;
  }
  held->second++;
  return true;
}

bool Numbers::give_back(Number number) {
  const std::scoped_lock lock(mutex_);
  const auto held = used_.find(number);
  if (held == used_.end() || --held->second != 0) {
    return false;
  }
  used_.erase(held);
  return true;
}

}  // namespace trireme::policy
