// SPDX-License-Identifier: Apache-2.0
// What a load of the configuration puts in force: policy, trust, peers, [host] labels and the
// settings of the sources of workloads.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "daemon.hpp"
#include "trireme/base/journal.hpp"
#include "trireme/docker/running.hpp"

namespace trireme::daemon {

std::string expiry_text(const credentials::Trust& trust) {
  return trust.expires() == credentials::Time::max()
             ? std::string()
             : fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                           fmt::gmtime(std::chrono::system_clock::to_time_t(trust.expires())));
}

/// Also called periodically: the certificate can expire while its file does not change.
void Daemon::look_at_certificate(const credentials::Trust& trust) {
  const auto doubt = trust.doubt(std::chrono::system_clock::now());
  problems_.note("[trust]", doubt ? Status(tl::unexpected(*doubt)) : Status{},
                 message_id::kCertificateEnds,
                 {{"CREDENTIAL", trust.description()}, {"EXPIRES", expiry_text(trust)}});
}

/// Without a credential of its own, this host cannot do handshakes with remote hosts, so it expects
/// no tokens from them.
void Daemon::expect_peers(const config::Host& host, const credentials::Trust& trust) {
  look_at_certificate(trust);
  points_->set_peers(trust.offered() ? host.peers : std::vector<policy::Prefix>());
  tokens_->set_peers(host);
}

Status Daemon::apply(const std::shared_ptr<const policy::Policy>& policy,
                     std::shared_ptr<const config::Host> host,
                     std::shared_ptr<const credentials::Trust> trust) {
  if (Status applied = points_->apply(policy); !applied) {
    return applied;
  }
  flows_.set_policy(*policy);
  tokens_->set_trust(trust);
  use(host, *trust);
  revocation_->look_after_load(points_->all());
  return {};
}

/// Has the gate's tracing program quarantine new containers. Called before the containers are
/// listed, so that none can start in between. With containers = "none" only while an operator's
/// order is for a container, because that container can start again.
void Daemon::quarantine_births(const config::Host& host) {
  config::DockerSettings settings = host.docker;
  if (registry_->holds_any(workload::Kind::container)) {
    settings.containers = config::DockerSettings::Containers::all;
  }
  const docker::ConfiguredEngines engines = docker::configured_engines(settings);
  problems_.note("new containers",
                 local_->quarantine_births({.docker = engines.docker, .podman = engines.podman}));
}

/// What a load brings besides policy, in the same way at the start and at a reload.
void Daemon::use(const std::shared_ptr<const config::Host>& host, const credentials::Trust& trust) {
  expect_peers(*host, trust);
  registry_->set_host_labels(host->labels);
  quarantine_births(*host);
  docker_->configure(host);
  units_->configure(host);
  launcher_->configure(host);
}

void Daemon::configure_sources() {
  quarantine_births(*settings_->host());
  docker_->configure(settings_->host());
  units_->configure(settings_->host());
}

}  // namespace trireme::daemon
