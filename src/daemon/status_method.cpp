// SPDX-License-Identifier: Apache-2.0
#include "status_method.hpp"

#include <map>

#include "daemon.hpp"
#include "time_text.hpp"
#include "workload_json.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

json crowded_json(Daemon& daemon);

json tokens_json(Daemon& daemon) {
  Tokens& tokens = daemon.tokens();
  const config::Host& host = *daemon.settings().host();
  const std::string expires = expiry_text(*daemon.settings().trust());
  const auto texts = [](const std::vector<policy::Prefix>& prefixes) {
    json list = json::array();
    for (const policy::Prefix& prefix : prefixes) {
      list.push_back(prefix.text());
    }
    return list;
  };
  return {{"queues", tokens.verifier() == nullptr ? "none" : kernel::text(tokens.mechanism())},
          {"threads", tokens.verifier() == nullptr ? 0 : tokens.verifier()->threads()},
          {"credential", daemon.settings().trust()->description()},
          {"expires", expires.empty() ? json() : json(expires)},
          {"peers", texts(host.peers)},
          {"nat", texts(host.nat)},
          {"enforcement_points", daemon.enforcement().size()},
          {"peer_identities", tokens.identities().size()},
          {"proved_connections", tokens.proved().connections.size()},
          {"crowded", crowded_json(daemon)}};
}

/// Bounded resources of the verifier that have been full, and their largest holders.
json crowded_json(Daemon& daemon) {
  json object = json::object();
  for (const Tokens::Crowded& crowded : daemon.tokens().crowded()) {
    object[handshake::text(crowded.what)] = {{"dropped", crowded.crowding.given_up},
                                             {"holder", crowded.holder},
                                             {"holds", crowded.crowding.holder.holds},
                                             {"of", crowded.crowding.holder.of},
                                             {"lately", crowded.lately}};
  }
  return object;
}

json names_json(Daemon& daemon) {
  const points::AnswerCounts counts = daemon.enforcement().answers();
  return {{"addresses", daemon.enforcement().named()},
          {"answers_believed", counts.believed},
          {"answers_doubted", counts.doubted},
          {"answers_lost", counts.lost}};
}

/// Whether the kernel quarantines new containers before their first instruction.
json births_json(const gate::Births& births) {
  using State = gate::Births::State;
  static const std::map<State, const char*> kTexts = {{State::off, "off"},
                                                      {State::always, "always"},
                                                      {State::while_running, "while_running"},
                                                      {State::absent, "absent"}};
  return {{"quarantined", kTexts.at(births.state)}, {"reason", births.doubt}};
}

/// Packets that the gate has refused at their sockets since it was first attached, by reason.
json gate_json(Daemon& daemon) {
  const auto refusals = daemon.local().refusals();
  if (!refusals) {
    return {{"error", refusals.error().text()}};
  }
  json refused = json::object();
  for (const auto& [reason, count] : refusals->by_reason()) {
    refused[reason] = count;
  }
  return {{"refused", std::move(refused)},
          {"audited", refusals->audited},
          {"births", births_json(daemon.local().births())}};
}

/// How full conntrack is in each network namespace with workloads.
json conntrack_json(Daemon& daemon) {
  json list = json::array();
  for (const points::Points::ConntrackUse& use : daemon.enforcement().conntrack()) {
    list.push_back({{"network", use.network},
                    {"entries", use.count.entries},
                    {"max", use.count.most},
                    {"full", use.full}});
  }
  return list;
}

/// How flows of this host's workloads to remote hosts ended in the last minutes.
json peers_json(Daemon& daemon) {
  json list = json::array();
  for (const handshake::PeerOutcomes& peer : daemon.tokens().peers()) {
    list.push_back({{"address", peer.address.text()},
                    {"ok", peer.allowed},
                    {"refused", peer.refused},
                    {"reason", handshake::text(peer.reason)}});
  }
  return list;
}

}  // namespace

nlohmann::json status_json(Daemon& daemon) {
  const Settings& settings = daemon.settings();
  json counts = {{"enforced", 0}, {"quarantined", 0}, {"unenforced", 0}};
  for (const workload::Workload* workload : daemon.registry().all()) {
    auto& count = counts[workload::text(workload->state)];
    count = count.get<int>() + 1;
  }
  return {{"version", TRIREME_VERSION},
          {"mode", settings.policy()->mode == policy::Mode::audit ? "audit" : "enforce"},
          {"uptime_seconds", daemon.uptime().count()},
          {"policy",
           {{"directory", settings.directory()},
            {"generation", settings.generation()},
            {"digest", policy::hex(settings.policy()->digest)},
            {"identity_digest", policy::hex(settings.host()->digest)},
            {"rules", settings.policy()->rules.size()},
            {"loaded", time_text(settings.loaded())},
            {"errors", settings.errors()},
            {"warnings", daemon.warnings()}}},
          {"pending", pending_json(daemon.changes())},
          {"state_directory", daemon.changes().state_dir()},
          {"workloads", counts},
          {"capabilities", capabilities_json(daemon.registry(), *daemon.settings().host())},
          {"holds", holds_json(daemon.registry())},
          {"sources", daemon.sources()},
          {"cgroup_driver", daemon.cgroup_driver()},
          {"gate", gate_json(daemon)},
          {"self_check",
           {{"gate_repairs", daemon.self_check().gate_repairs()},
            {"network_moves", daemon.self_check().moves()}}},
          {"tokens", tokens_json(daemon)},
          {"peers", peers_json(daemon)},
          {"conntrack", conntrack_json(daemon)},
          {"names", names_json(daemon)},
          {"problems", daemon.problems()}};
}

}  // namespace trireme::daemon
