// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/result.hpp"

#include <system_error>

namespace trireme {

tl::unexpected<Error> fail_errno(std::string_view what, int error) {
  return tl::unexpected<Error>(
      Error{std::string(what) + ": " + std::generic_category().message(error), {}, error});
}

}  // namespace trireme
