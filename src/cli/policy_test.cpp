#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"
#include "trireme/base/file.hpp"

namespace trireme::cli {
namespace {

namespace fs = std::filesystem;

Status add_source(std::vector<config::Source>& sources, const std::string& name,
                  const std::string& path) {
  auto content = read_file(path);
  if (!content) {
    return tl::unexpected(content.error());
  }
  sources.push_back({name, std::move(*content)});
  return {};
}

/// policy.toml and policy.d as the loader orders them, then the files given: their [[test]] entries
/// are asked of this policy.
Result<std::vector<config::Source>> sources_of(const std::string& directory,
                                               const std::vector<std::string>& files) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    return fail("there is no directory " + directory,
                "name the policy's directory with --config-dir");
  }
  std::vector<std::string> names;
  if (fs::exists(directory + "/policy.toml", error)) {
    names.emplace_back("policy.toml");
  }
  std::vector<std::string> drop_ins;
  for (fs::directory_iterator entries(directory + "/policy.d", error);
       !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(".toml") && !name.starts_with('.')) {
      drop_ins.push_back("policy.d/" + name);
    }
  }
  std::sort(drop_ins.begin(), drop_ins.end());
  names.insert(names.end(), drop_ins.begin(), drop_ins.end());
  std::vector<config::Source> sources;
  for (const auto& name : names) {
    if (auto status = add_source(sources, name, directory + "/" + name); !status) {
      return tl::unexpected(status.error());
    }
  }
  for (const auto& file : files) {
    if (auto status = add_source(sources, file, file); !status) {
      return tl::unexpected(status.error());
    }
  }
  return sources;
}

int test(const Globals& globals, const std::vector<std::string>& files) {
  const auto sources = sources_of(configuration_dir(globals), files);
  if (!sources) {
    return report(globals, sources.error());
  }
  const auto configuration = config::parse(*sources, {});
  const auto failed =
      std::count_if(configuration.diagnostics.begin(), configuration.diagnostics.end(), is_error);
  if (globals.json) {
    print_json({{"passed", configuration.valid()},
                {"tests", configuration.policy.tests.size()},
                {"failures", failed},
                {"diagnostics", to_json(configuration.diagnostics)}});
    return configuration.valid() ? kYes : kNo;
  }
  for (const auto& diagnostic : configuration.diagnostics) {
    fmt::print("{}\n", fit(printable(diagnostic.text()), 4));
  }
  const std::size_t count = configuration.policy.tests.size();
  fmt::print("{} {}, {}\n", count, count == 1 ? "test" : "tests",
             failed == 0 ? "all passed" : fmt::format("{} errors", failed));
  return configuration.valid() ? kYes : kNo;
}

}  // namespace

void add_policy_test(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "test", "Run the [[test]] entries of a policy");
  const auto files = std::make_shared<std::vector<std::string>>();
  command->add_option("FILE", *files, "more tests, held against that policy");
  command->callback(
      [&globals, &action, files] { action = [&globals, files] { return test(globals, *files); }; });
}

}  // namespace trireme::cli
