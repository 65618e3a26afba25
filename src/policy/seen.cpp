// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

Endpoint SeenEnd::endpoint(std::span<const std::size_t> named) const {
  if (labels) {
    return {.kind = Endpoint::Kind::workload, .labels = &*labels, .workload = 0, .address = {}};
  }
  return {.kind = host ? Endpoint::Kind::host : Endpoint::Kind::world,
          .labels = nullptr,
          .workload = 0,
          .address = address,
          .named = named};
}

std::vector<std::size_t> SeenEnd::networks(const NameIndex& index) const {
  std::vector<std::size_t> result;
  for (const std::string& name : names) {
    const auto more = index.match(name);
    result.insert(result.end(), more.begin(), more.end());
  }
  return result;
}

Decision judge(const Policy& policy, const NameIndex& names, const SeenFlow& flow) {
  const auto from = flow.from.networks(names);
  const auto to = flow.to.networks(names);
  return evaluate(policy, flow.from.endpoint(from), flow.to.endpoint(to), flow.protocol, flow.port);
}

std::string SeenEnd::text() const {
  if (labels) {
    return !labels->empty() ? labels->text() : workload.empty() ? "(no labels)" : workload;
  }
  return host ? "@host" : address ? address->text() : "@world";
}

}  // namespace trireme::policy
