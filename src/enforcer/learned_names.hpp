// SPDX-License-Identifier: Apache-2.0
// Addresses of names as the kernel is told of them.
#pragma once

#include "name_book.hpp"
#include "trireme/enforcer/elements.hpp"

namespace trireme::enforcer {

/// How long the kernel keeps an address beyond its time: the daemon takes it out sooner, unless
/// flows use it or the daemon is dead.
inline constexpr std::chrono::seconds kNameGrace{120};

/// Those of `addresses` that have a class in `elements`.
[[nodiscard]] std::vector<NamedAddress> named_elements(
    const NameBook& book, const std::vector<policy::Address>& addresses,
    const policy::Elements& elements);

}  // namespace trireme::enforcer
