// SPDX-License-Identifier: Apache-2.0
// The files of the page (src/cli/page and the libraries it uses), embedded in trirectl.
#pragma once

#include <string_view>

namespace trireme::cli {

/// Markup with the places @POLICY@, @STYLE@, @DATA@ and @SCRIPT@.
[[nodiscard]] std::string_view page_markup();
[[nodiscard]] std::string_view page_style();
/// d3, dagre and the scripts of the page, one after the other.
[[nodiscard]] std::string_view page_script();

}  // namespace trireme::cli
