// SPDX-License-Identifier: Apache-2.0
// Whole-file reads and writes with the path in every error.
#pragma once

#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme {

/// The content of a file of at most `limit` bytes; larger is an error.
[[nodiscard]] Result<std::string> read_file(const std::string& path,
                                            std::size_t limit = 16U << 20U);

/// Writes `content` in one write(2) to an existing file, or a new one of this mode (for cgroup and
/// proc files, and for small files of our own).
[[nodiscard]] Status write_file(const std::string& path, std::string_view content,
                                unsigned mode = 0644);

/// Makes `content` that of the file, whole or not at all, even if the machine goes down meanwhile:
/// by way of `path`.new. `mode` is the new file's.
[[nodiscard]] Status replace_file(const std::string& path, std::string_view content, unsigned mode);

/// Creates a file of this mode with `content`, whole or not at all. One that is there already, a
/// link too, is an error and stays as it is.
[[nodiscard]] Status write_new_file(const std::string& path, std::string_view content,
                                    unsigned mode);

}  // namespace trireme
