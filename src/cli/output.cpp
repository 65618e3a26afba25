// SPDX-License-Identifier: Apache-2.0
#include "output.hpp"

#include "values.hpp"

namespace trireme::cli {

void add_output(CLI::App& command, Output& output) {
  command
      .add_option_function<std::string>(
          "-o,--output",
          [&output](const std::string& format) {
            output.json = format == "json";
            output.wide = format == "wide";
          },
          "output format")
      ->type_name("FORMAT")
      ->take_last()
      ->check(one_of({"table", "wide", "json"}));
  command.add_flag_callback(
      "--json", [&output] { output = {.json = true, .wide = false}; }, "the same as -o json");
}

}  // namespace trireme::cli
