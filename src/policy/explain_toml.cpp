// SPDX-License-Identifier: Apache-2.0
// The entries that would allow one flow to or from an endpoint without labels.
#include <fmt/format.h>

#include <algorithm>

#include "suggest_sides.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

/// A name for the network of a DNS name or an address that the policy does not have yet.
std::string network_name(const Policy& policy, std::string_view what) {
  std::string base(what);
  std::ranges::replace(base, ':', '-');
  const auto is_taken = [&](const std::string& name) {
    return std::ranges::find(policy.networks, name, &Network::name) != policy.networks.end();
  };
  std::string name = base;
  for (int i = 2; is_taken(name); ++i) {
    name = fmt::format("{}-{}", base, i);
  }
  return name;
}

/// The network that contains the fewest other addresses.
const Network* narrowest(const Policy& policy, const View& view) {
  const Network* found = nullptr;
  int longest = -1;
  for (const std::size_t index : view.networks(policy)) {
    const Network& network = policy.networks[index];
    int length = 0;  // of a network by name alone
    for (const Prefix& cidr : network.cidrs) {
      length = view.address && cidr.contains(*view.address) ? std::max<int>(length, cidr.length)
                                                            : length;
    }
    if (length > longest) {
      longest = length;
      found = &network;
    }
  }
  return found;
}

/// How a rule names the endpoint. `entry` receives the [[network]] that it needs.
std::string side_text(const Policy& policy, const View& view, const std::string& name,
                      std::string& entry) {
  if (view.kind == Endpoint::Kind::workload) {
    const LabelSet labels = expressible(view.labels);
    return labels.empty() ? "" : selector_text(labels);
  }
  if (view.kind == Endpoint::Kind::host) {
    return "@host";
  }
  if (const Network* known = narrowest(policy, view)) {
    return "@" + known->name;
  }
  if (name.empty() && !view.address) {
    return "@world";
  }
  const std::string address = view.address ? view.address->text() : "";
  const std::string added = network_name(policy, name.empty() ? address : name);
  entry = fmt::format("[[network]]\nname = {}\n{} = [{}]\n\n", toml_string(added),
                      name.empty() ? "cidrs" : "names", toml_string(name.empty() ? address : name));
  return "@" + added;
}

}  // namespace

std::string allowing_toml(const Policy& policy, const View& from, const View& to,
                          const std::string& name, std::uint8_t protocol, std::uint16_t port) {
  const bool is_from_workload = from.kind == Endpoint::Kind::workload;
  if (is_from_workload == (to.kind == Endpoint::Kind::workload)) {
    return {};
  }
  std::string network;
  const std::string source = side_text(policy, from, name, network);
  const std::string destination = side_text(policy, to, name, network);
  if (source.empty() || destination.empty()) {
    return {};
  }
  return fmt::format("{}[[allow]]\nname = {}\nfrom = {}\nto = {}\nports = [{}]\n", network,
                     toml_string(fmt::format("{} to {}", source, destination)), toml_string(source),
                     toml_string(destination), toml_string(port_text(protocol, port)));
}

}  // namespace trireme::policy
