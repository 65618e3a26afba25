// SPDX-License-Identifier: Apache-2.0
#include "root_reads.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace trireme::config {

bool kept_from_root(const std::string& path) {
  return ::geteuid() == 0 && ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0 &&
         errno == EACCES;
}

bool modes_keep_from_root(const std::string& path) {
  const auto lacks = [](const std::filesystem::path& place, unsigned bit) {
    struct stat status = {};
    if (::stat(place.c_str(), &status) != 0) {
      return false;
    }
    const unsigned shift = status.st_uid == 0 ? 6U : status.st_gid == 0 ? 3U : 0U;
    return ((status.st_mode >> shift) & bit) == 0;
  };
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  if (error) {
    return false;
  }
  if (lacks(real, S_IROTH)) {
    return true;
  }
  for (auto above = real.parent_path(); above != above.root_path(); above = above.parent_path()) {
    if (lacks(above, S_IXOTH)) {
      return true;
    }
  }
  return false;
}

std::string mode_hint(const std::string& path) {
  return fmt::format(
      "the daemon runs as root without CAP_DAC_OVERRIDE, so file modes apply to it; run 'chown "
      "root {}'",
      path);
}

}  // namespace trireme::config
