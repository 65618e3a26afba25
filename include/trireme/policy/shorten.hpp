// SPDX-License-Identifier: Apache-2.0
// The labels of two endpoints as short text: what distinguishes them, in full.
#pragma once

#include <string>

#include "trireme/policy/labels.hpp"

namespace trireme::policy {

struct ShortLabels {
  std::string source;
  std::string destination;
};

/// Leaves out labels (key and value) that both sets have; ",…" says so. No other label is left out,
/// and none is cut. A set all of whose labels the other one has too is written in full; if both
/// sets are equal, the destination is "same labels". Empty sets give empty text.
[[nodiscard]] ShortLabels shorten(const LabelSet::Map& source, const LabelSet::Map& destination);

}  // namespace trireme::policy
