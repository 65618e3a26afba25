// SPDX-License-Identifier: Apache-2.0
#include "page_files.hpp"

// TRIREME_PAGE_MARKUP, _STYLE and _SCRIPT are paths of files; CMake defines them.
// clang-format off
asm(".pushsection .rodata\n"
    ".globl trireme_page_markup\n"
    "trireme_page_markup:\n"
    ".incbin \"" TRIREME_PAGE_MARKUP "\"\n"
    ".globl trireme_page_markup_end\n"
    "trireme_page_markup_end:\n"
    ".globl trireme_page_style\n"
    "trireme_page_style:\n"
    ".incbin \"" TRIREME_PAGE_STYLE "\"\n"
    ".globl trireme_page_style_end\n"
    "trireme_page_style_end:\n"
    ".globl trireme_page_script\n"
    "trireme_page_script:\n"
    ".incbin \"" TRIREME_PAGE_SCRIPT "\"\n"
    ".globl trireme_page_script_end\n"
    "trireme_page_script_end:\n"
    ".popsection\n");
// clang-format on

extern "C" {
extern const char trireme_page_markup;
extern const char trireme_page_markup_end;
extern const char trireme_page_style;
extern const char trireme_page_style_end;
extern const char trireme_page_script;
extern const char trireme_page_script_end;
}

namespace trireme::cli {

std::string_view page_markup() {
  return {&trireme_page_markup, &trireme_page_markup_end};
}

std::string_view page_style() {
  return {&trireme_page_style, &trireme_page_style_end};
}

std::string_view page_script() {
  return {&trireme_page_script, &trireme_page_script_end};
}

}  // namespace trireme::cli
