// SPDX-License-Identifier: Apache-2.0
// Reads the files listed in [trust].
#pragma once

#include <string>
#include <vector>

#include "reporter.hpp"

namespace trireme::config {

/// Reads the files; relative paths are relative to `directory`. Reports, at the location of each
/// path, a wrong owner or mode, and, if all files could be read, errors in their contents. With
/// KeyFiles::optional, an unreadable file is only a warning.
[[nodiscard]] credentials::TrustMaterial read_trust(const std::string& directory,
                                                    const std::vector<TrustFile>& files,
                                                    const config::Host& host, KeyFiles keys,
                                                    Reporter& reporter);

}  // namespace trireme::config
