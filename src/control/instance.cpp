// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/instance.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cstdlib>

namespace trireme::control {

std::string default_runtime_dir() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read before any thread starts
  const char* chosen = std::getenv("TRIREME_RUNTIME_DIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : TRIREME_RUNTIMEDIR;
}

std::string socket_path(const std::string& runtime_dir) {
  return runtime_dir + "/trireme.sock";
}

Result<Fd> lock_instance(const std::string& runtime_dir) {
  const std::string path = runtime_dir + "/lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) {
    return fail_errno("cannot open " + path);
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail("triremed is running in " + runtime_dir,
                  "run 'systemctl stop trireme' first, or choose another --runtime-dir");
    }
    return fail_errno("cannot lock " + path);
  }
  return fd;
}

}  // namespace trireme::control
