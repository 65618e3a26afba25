// SPDX-License-Identifier: Apache-2.0
#include "last_good.hpp"

#include <nlohmann/json.hpp>

#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

std::string file_of(const std::string& runtime_dir) {
  return runtime_dir + "/last-good.json";
}

json to_json(const std::vector<config::Source>& sources) {
  json list = json::array();
  for (const config::Source& source : sources) {
    list.push_back({{"file", source.file}, {"content", source.content}});
  }
  return list;
}

std::vector<config::Source> sources(const json& list) {
  std::vector<config::Source> result;
  for (const json& item : list) {
    result.push_back({item.at("file").get<std::string>(), item.at("content").get<std::string>()});
  }
  return result;
}

}  // namespace

Status keep_last_good(const std::string& runtime_dir, const config::Configuration& configuration) {
  const json value = {{"policy", to_json(configuration.policy_sources)},
                      {"identity", to_json(configuration.identity_sources)}};
  return replace_file(file_of(runtime_dir), value.dump(), 0600);
}

std::optional<config::Configuration> read_last_good(const std::string& runtime_dir) {
  const auto content = read_file(file_of(runtime_dir), std::size_t{256} << 20U);
  if (!content) {
    return std::nullopt;
  }
  const json value = json::parse(*content, nullptr, false);
  if (!value.is_object()) {
    return std::nullopt;
  }
  try {
    auto configuration = config::parse(sources(value.at("policy")), sources(value.at("identity")));
    return configuration.valid() ? std::optional(std::move(configuration)) : std::nullopt;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

}  // namespace trireme::daemon
