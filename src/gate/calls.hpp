// SPDX-License-Identifier: Apache-2.0
// Results of libbpf's calls.
#pragma once

#include <cerrno>

#include "trireme/base/result.hpp"

namespace trireme::gate {

/// `rc` is a result of libbpf: 0, or a negative errno value.
inline Status checked(int rc, const char* what) {
  return rc == 0 ? Status{} : Status(fail_errno(what, -rc));
}

/// Like checked(), but a missing key is no error.
inline Status removed(int rc, const char* what) {
  return rc == -ENOENT ? Status{} : checked(rc, what);
}

}  // namespace trireme::gate
