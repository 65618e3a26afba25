// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/schema.hpp"

#include <fmt/format.h>

#include <memory>

#include "command.hpp"

namespace trireme::cli {

/// For the build, which installs the schemas, so that the readers and the schemas cannot differ.
void add_schema(CLI::App& parent, Action& action) {
  CLI::App* command =
      parent.add_subcommand("schema", "Print a JSON Schema of a configuration file");
  command->group("");
  const auto file = std::make_shared<std::string>();
  command->add_option("FILE", *file, "policy or identity")
      ->required()
      ->check(CLI::IsMember({"policy", "identity"}));
  command->callback([&action, file] {
    action = [file] {
      const auto schema = *file == "policy" ? config::policy_schema() : config::identity_schema();
      fmt::print("{}\n", schema.dump(2));
      return kYes;
    };
  });
}

}  // namespace trireme::cli
