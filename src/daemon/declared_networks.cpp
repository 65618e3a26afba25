// SPDX-License-Identifier: Apache-2.0
#include "declared_networks.hpp"

#include <nlohmann/json.hpp>

#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

constexpr std::size_t kMostNetworksBytes = 16U << 20U;

std::string networks_file(const std::string& runtime_dir) {
  return runtime_dir + "/networks.json";
}

}  // namespace

Status keep_declared_networks(const std::string& runtime_dir,
                              const docker::DeclaredNetworks& networks) {
  json value = json::object();
  for (const auto& [socket, prefixes] : networks) {
    json& list = value[socket] = json::array();
    for (const policy::Prefix& prefix : prefixes) {
      list.push_back(prefix.text());
    }
  }
  return replace_file(networks_file(runtime_dir), value.dump(), 0600);
}

docker::DeclaredNetworks read_declared_networks(const std::string& runtime_dir) {
  docker::DeclaredNetworks networks;
  const auto content = read_file(networks_file(runtime_dir), kMostNetworksBytes);
  const json value = content ? json::parse(*content, nullptr, false) : json();
  if (!value.is_object()) {
    return networks;
  }
  for (const auto& [socket, list] : value.items()) {
    for (const json& text : list.is_array() ? list : json::array()) {
      const auto prefix = text.is_string() ? policy::Prefix::parse(text.get<std::string>())
                                           : Result<policy::Prefix>(fail("not a string"));
      if (prefix) {
        networks[socket].push_back(*prefix);
      }
    }
  }
  return networks;
}

std::vector<policy::Prefix> together(const docker::DeclaredNetworks& networks) {
  std::vector<policy::Prefix> all;
  for (const auto& [socket, prefixes] : networks) {
    all.insert(all.end(), prefixes.begin(), prefixes.end());
  }
  return all;
}

}  // namespace trireme::daemon
