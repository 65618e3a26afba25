// SPDX-License-Identifier: Apache-2.0
// The files that [trust] names.
#pragma once

#include <string>
#include <vector>

#include "reporter.hpp"

namespace trireme::config {

/// Reads them, relative to `directory`, and reports at the place of each what is wrong with its
/// owner, its mode and, where all could be read, with what they hold. Where they are `optional`,
/// one that cannot be read is a warning.
[[nodiscard]] credentials::TrustMaterial read_trust(const std::string& directory,
                                                    const std::vector<TrustFile>& files,
                                                    const policy::Identity& identity, KeyFiles keys,
                                                    Reporter& reporter);

}  // namespace trireme::config
