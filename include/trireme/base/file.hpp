// SPDX-License-Identifier: Apache-2.0
// Reads and writes whole files. Every error message contains the path.
#pragma once

#include <string>
#include <string_view>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme {

/// Returns the content of a file. Errors: those of open(2) and read(2); more than `limit` bytes.
[[nodiscard]] Result<std::string> read_file(const std::string& path,
                                            std::size_t limit = 16U << 20U);

/// Writes `content` with one write(2) to a file, which is truncated, or created with this mode. For
/// files of cgroups and /proc, which need a single write, and for small files.
[[nodiscard]] Status write_file(const std::string& path, std::string_view content,
                                unsigned mode = 0644);

/// Replaces the file atomically, even if the machine crashes meanwhile: writes `path`.new, syncs it
/// and renames it. The file gets `mode`.
[[nodiscard]] Status replace_file(const std::string& path, std::string_view content, unsigned mode);

/// Creates a file with this mode and content; removes it again if it cannot be written completely.
/// An existing file or symbolic link is an error and is not changed.
[[nodiscard]] Status write_new_file(const std::string& path, std::string_view content,
                                    unsigned mode);

/// write_new_file() that leaves the file open for writing. A caller that goes on with the file, to
/// sync it for example, then needs no second look-up of its name.
[[nodiscard]] Result<Fd> create_file(const std::string& path, std::string_view content,
                                     unsigned mode);

}  // namespace trireme
