// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>

#include "command.hpp"

int main(int argc, char** argv) {
  try {
    return trireme::cli::trirectl({argv, argv + argc});
  } catch (const std::exception& exception) {
    // nlohmann::json throws if a daemon of another version answers with a key of another type.
    std::fprintf(stderr, "trirectl: %s\n", exception.what());
    return trireme::cli::kNo;
  }
}
