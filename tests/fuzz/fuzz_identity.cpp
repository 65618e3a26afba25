// SPDX-License-Identifier: Apache-2.0
// Any bytes as identity.toml: no crash, and a valid identity has the properties that its readers
// rely on.
#include "fuzz_support.hpp"

namespace {

using namespace trireme;

void check_identity(const config::Host& host) {
  for (const auto& unit : host.units) {
    fuzz::require(!unit.name.empty() && !unit.labels.empty(), "a unit has a name and labels");
    policy::LabelSet together = unit.labels;
    fuzz::require(together.add_host_labels(host.labels).has_value(),
                  "a unit's labels can be combined with the host's");
    const auto decoded = policy::LabelSet::decode(together.encode());
    fuzz::require(decoded.has_value() && *decoded == together, "labels survive their encoding");
  }
  for (const auto& launch : host.launches) {
    fuzz::require(launch.user.empty() != launch.group.empty(), "a grant is for a user or a group");
    fuzz::require(!launch.labels.empty(), "a grant has labels");
  }
  fuzz::require(host.trust.psk_file.empty() || host.trust.certificate.empty(),
                "trust is of one kind");
  fuzz::require(!host.docker.sockets.empty(), "there is a socket");
  for (const std::string& socket : host.docker.sockets) {
    fuzz::require(socket.starts_with('/'), "a socket is an absolute path");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto sources = fuzz::sources(data, size, "identity");
  const auto configuration = config::parse({}, sources);
  fuzz::check_diagnostics(configuration, sources);
  if (configuration.valid()) {
    check_identity(configuration.host);
  }
  return 0;
}
