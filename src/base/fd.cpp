// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/fd.hpp"

#include <unistd.h>

namespace trireme {

void Fd::reset(int fd) {
  if (fd_ >= 0) {
    ::close(fd_);
  }
  fd_ = fd;
}

}  // namespace trireme
