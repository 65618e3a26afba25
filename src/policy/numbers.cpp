#include "trireme/policy/numbers.hpp"

#include <algorithm>

namespace trireme::policy {

std::optional<Number> Numbers::take() {
  const std::scoped_lock lock(mutex_);
  for (Number tries = kFirstNumber; tries <= kLastNumber; tries++) {
    last_ = last_ >= kLastNumber ? kFirstNumber : last_ + 1;
    if (used_.insert(last_).second) {
      return last_;
    }
  }
  return std::nullopt;
}

bool Numbers::take(Number number) {
  const std::scoped_lock lock(mutex_);
  if (number < kFirstNumber || number > kLastNumber || !used_.insert(number).second) {
    return false;
  }
  last_ = std::max(last_, number);
  return true;
}

void Numbers::give_back(Number number) {
  const std::scoped_lock lock(mutex_);
  used_.erase(number);
}

}  // namespace trireme::policy
