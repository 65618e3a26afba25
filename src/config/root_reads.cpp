// SPDX-License-Identifier: Apache-2.0
#include "root_reads.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

namespace trireme::config {

bool kept_from_root(const std::string& path) {
  return ::geteuid() == 0 && ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0 &&
         errno == EACCES;
}

std::string mode_hint(const std::string& path) {
  return fmt::format(
      "the daemon runs as root without CAP_DAC_OVERRIDE, so file modes apply to it; run 'chown "
      "root {}'",
      path);
}

}  // namespace trireme::config
