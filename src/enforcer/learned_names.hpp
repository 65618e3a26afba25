// SPDX-License-Identifier: Apache-2.0
// Converts addresses that have a DNS name to elements of the kernel's sets.
#pragma once

#include "name_book.hpp"
#include "trireme/datapath/elements.hpp"

namespace trireme::enforcer {

/// How long the kernel keeps an address after it has expired. The daemon removes it earlier, unless
/// flows use it or the daemon does not run.
inline constexpr std::chrono::seconds kNameGrace{120};

/// Elements for those of `addresses` that have a class in `elements`.
[[nodiscard]] std::vector<datapath::NamedAddress> named_elements(
    const NameBook& book, const std::vector<policy::Address>& addresses,
    const policy::Elements& elements);

}  // namespace trireme::enforcer
