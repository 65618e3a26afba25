// SPDX-License-Identifier: Apache-2.0
// Diagnostics as lines of other programs.
#pragma once

#include <string>

#include "trireme/config/loader.hpp"

namespace trireme::cli {

/// "::error file=DIR/policy.toml,line=12,col=8::MESSAGE; HINT": a workflow command of GitHub
/// Actions. A diagnostic without a file has no place.
[[nodiscard]] std::string github_annotation(const std::string& directory,
                                            const config::Diagnostic& diagnostic);

}  // namespace trireme::cli
