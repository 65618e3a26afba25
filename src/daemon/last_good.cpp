// SPDX-License-Identifier: Apache-2.0
#include "last_good.hpp"

#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

std::string file_of(const std::string& runtime_dir) {
  return runtime_dir + "/last-good.json";
}

}  // namespace

Status keep_last_good(const std::string& runtime_dir, const config::FileSet& files) {
  return replace_file(file_of(runtime_dir), to_json(files).dump(), 0600);
}

std::optional<config::Configuration> read_last_good(const std::string& runtime_dir) {
  const auto content = read_file(file_of(runtime_dir), std::size_t{256} << 20U);
  if (!content) {
    return std::nullopt;
  }
  const auto files = config::file_set(nlohmann::json::parse(*content, nullptr, false));
  if (!files) {
    return std::nullopt;
  }
  auto configuration = config::parse(files->policy, files->identity);
  return configuration.valid() ? std::optional(std::move(configuration)) : std::nullopt;
}

}  // namespace trireme::daemon
