// SPDX-License-Identifier: Apache-2.0
// The methods of the control socket: each reads its parameters from JSON, acts on the daemon and
// answers with JSON.
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <limits>
#include <set>

#include "connections.hpp"
#include "daemon.hpp"
#include "incident.hpp"
#include "present.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/control/explain.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/control/world.hpp"
#include "unmanaged.hpp"
#include "workload_json.hpp"
#include "world_view.hpp"

namespace trireme::daemon {
namespace {

using control::Access;
using control::Caller;
using control::Reply;
using nlohmann::json;

std::string time_text(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

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

json status_json(Daemon& daemon) {
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

json sources_json(const std::vector<config::Source>& sources) {
  json list = json::array();
  for (const config::Source& source : sources) {
    list.push_back({{"file", source.file}, {"content", source.content}});
  }
  return list;
}

json policy_json(const Settings& settings) {
  json expiring = json::array();
  for (const policy::Rule& rule : settings.whole_policy().rules) {
    if (rule.until) {
      expiring.push_back({{"rule", rule.text()},
                          {"until", policy::text(*rule.until)},
                          {"expired", policy::has_expired(rule, policy::now())}});
    }
  }
  return {{"directory", settings.directory()},
          {"generation", settings.generation()},
          {"digest", policy::hex(settings.policy()->digest)},
          {"identity_digest", policy::hex(settings.host()->digest)},
          {"expiring", std::move(expiring)},
          {"mode", settings.policy()->mode == policy::Mode::audit ? "audit" : "enforce"},
          {"sources", sources_json(settings.policy_sources())},
          {"identity_sources", sources_json(settings.identity_sources())}};
}

json connection_json(const OpenConnections& group) {
  json object = to_json(group.tally);
  object["local"] = group.is_local;
  object["guess"] = group.is_guess;
  if (!group.client_ports.empty()) {
    object["client_ports"] = group.client_ports;
  }
  return object;
}

Result<json> connections_json(Daemon& daemon, const json& params) {
  const auto filter = control::FlowFilter::parse(params, *daemon.settings().policy());
  if (!filter) {
    return tl::unexpected(filter.error());
  }
  const auto found =
      connections(daemon, params.value("processes", false) ? Scope::everything : Scope::workloads);
  if (!found) {
    return tl::unexpected(found.error());
  }
  const auto limit = params.value("limit", std::numeric_limits<std::size_t>::max());
  json list = json::array();
  std::size_t left_out = 0;
  for (const OpenConnections& group : found->groups) {
    if (!filter->matches(group.tally.last)) {
      continue;
    }
    list.size() < limit ? list.push_back(connection_json(group)) : void(++left_out);
  }
  return json{{"flows", found->flows},
              {"unknown", found->unknown},
              {"complete", found->complete},
              {"left_out", left_out},
              {"connections", std::move(list)}};
}

json rules_json(Daemon& daemon) {
  json list = json::array();
  for (const auto& [text, rule, count] : daemon.flows().hits().lines(*daemon.settings().policy())) {
    json line = {{"rule", text},
                 {"hits", count.hits},
                 {"last", count.last ? json(time_text(*count.last)) : json()},
                 {"since", time_text(count.since)}};
    if (rule != nullptr) {
      line.update({{"name", rule->name},
                   {"action", rule->action == policy::Rule::Action::allow ? "allow" : "deny"},
                   {"mode", rule->mode == policy::Mode::audit ? "audit" : "enforce"},
                   {"file", rule->where.file},
                   {"line", rule->where.line}});
    }
    list.push_back(std::move(line));
  }
  return list;
}

json words_json(Daemon& daemon) {
  std::set<std::string> names;
  std::set<std::string> labels;
  for (const workload::Workload* workload : daemon.registry().all()) {
    names.insert(workload->name);
    for (const auto& [key, value] : workload->labels.items()) {
      labels.insert(key + "=" + value);
    }
  }
  std::set<std::string> networks;
  for (const policy::Network& network : daemon.settings().policy()->networks) {
    networks.insert("@" + network.name);
  }
  std::set<std::string> held;
  for (const workload::Hold& hold : daemon.registry().holds()) {
    held.insert(hold.name);
  }
  return {{"workloads", names}, {"labels", labels}, {"networks", networks}, {"held", held}};
}

/// Lists the workloads by name, each in its state at the time when the caller reads it. Workloads
/// that have ended by then are left out.
Reply::Next list_workloads(Daemon& daemon, bool examine) {
  workload::Registry& registry = daemon.registry();
  auto names = std::make_shared<std::vector<std::string>>();
  for (const workload::Workload* workload : registry.all()) {
    names->push_back(workload->name);
  }
  return
      [&daemon, &registry, names, examine, next = std::size_t{0}]() mutable -> std::optional<json> {
        while (next < names->size()) {
          const std::string& name = (*names)[next++];
          const workload::Workload* workload = registry.find_name(name);
          if (examine && workload != nullptr && workload->state == workload::State::enforced &&
              !workload->cgroup_path.empty()) {
            registry.examine(std::string(workload->cgroup_path));
            workload = registry.find_name(name);
          }
          if (workload != nullptr) {
            return workload_json(*workload, registry, *daemon.settings().host());
          }
        }
        return std::nullopt;
      };
}

Result<json> explain(Daemon& daemon, const json& params) {
  return control::explain(*daemon.settings().policy(), world_view(daemon),
                          params.at("from").get<std::string>(), params.at("to").get<std::string>(),
                          params.at("port").get<std::string>());
}

Result<systemd::LaunchRequest> launch_request(const Caller& caller, const json& params) {
  auto request = systemd::parse_launch(params);
  if (!request) {
    return request;
  }
  request->pid = static_cast<std::uint32_t>(caller.pid);
  request->uid = caller.uid;
  request->gid = caller.gid;
  request->groups.assign(caller.groups.begin(), caller.groups.end());
  if (caller.pidfd.valid()) {
    request->pidfd = Fd(::fcntl(caller.pidfd.get(), F_DUPFD_CLOEXEC, 3));
    if (!request->pidfd.valid()) {
      return fail_errno("cannot duplicate the pidfd of the calling process");
    }
  }
  return request;
}

void launch(Daemon& daemon, const Caller& caller, const json& params, const Reply& reply) {
  auto request = launch_request(caller, params);
  if (!request) {
    reply.error(request.error());
    return;
  }
  const auto pid = request->pid;
  const auto uid = request->uid;
  const std::string labels = request->labels.text();
  daemon.launcher().launch(
      std::move(*request), [&daemon, reply, pid, uid, labels](Result<systemd::Launched> launched) {
        if (!launched) {
          if (log_shares().admit(fmt::format("uid {}", uid))) {
            spdlog::warn("launch of '{}' by uid {} (pid {}) refused: {}", loggable(labels), uid,
                         pid, loggable(launched.error().text()));
          }
          reply.error(launched.error());
          return;
        }
        spdlog::debug("started {} with labels {} for uid {}", launched->name, labels, uid);
        daemon.self_check().watch_start(launched->cgroup_path);
        reply.result({{"name", launched->name}, {"cgroup", launched->cgroup_path}});
      });
}

/// Makes a handler from a function that returns the result.
template <typename Function>
control::Handler answer(Function function) {
  return [function](const Caller& /*caller*/, const json& params, const Reply& reply) {
    reply.result(function(params));
  };
}

}  // namespace

void register_methods(control::Server& server, Daemon& daemon) {
  namespace method = control::method;
  server.on(method::status, Access::root,
            answer([&daemon](const json&) { return status_json(daemon); }));
  server.on(method::workloads, Access::root,
            [&daemon](const Caller&, const json& params, const Reply& reply) {
              reply.list(list_workloads(daemon, params.value("examine", true)));
            });
  server.on(method::metrics, Access::root, answer([&daemon](const json&) {
              return json{{"text", metrics_text(daemon)}};
            }));
  server.on(method::reload, Access::root,
            [&daemon](const Caller&, const json&, const Reply& reply) {
              if (const Status reloaded = daemon.settings().reload(); !reloaded) {
                reply.error(reloaded.error());
                return;
              }
              const Settings& settings = daemon.settings();
              reply.result({{"generation", settings.generation()},
                            {"rules", settings.policy()->rules.size()},
                            {"warnings", settings.warnings()}});
            });
  server.on(method::explain, Access::root,
            [&daemon](const Caller&, const json& params, const Reply& reply) {
              const auto explanation = explain(daemon, params);
              explanation ? reply.result(*explanation) : reply.error(explanation.error());
            });
  server.on(method::world, Access::root,
            [&daemon](const Caller&, const json& /*params*/, const Reply& reply) {
              const auto world = std::make_shared<const policy::World>(world_view(daemon));
              reply.list_events(control::world_events(world), control::world_result(*world));
            });
  server.on(method::launch, Access::anyone,
            [&daemon](const Caller& caller, const json& params, const Reply& reply) {
              launch(daemon, caller, params, reply);
            });
  server.on(method::unit_gate, Access::root,
            [&daemon](const Caller& caller, const json& params, const Reply& reply) {
              const auto unit = params.at("unit").get<std::string>();
              std::optional<std::set<std::uint32_t>> alone;
              if (params.contains("alone")) {
                alone = params.at("alone").get<std::set<std::uint32_t>>();
              }
              daemon.units().gate(unit, static_cast<std::uint32_t>(caller.pid), std::move(alone),
                                  [unit, reply](const Result<std::set<std::uint32_t>>& open) {
                                    if (!open) {
                                      spdlog::error("{} is not started: {}", unit,
                                                    open.error().text());
                                      reply.error(open.error());
                                      return;
                                    }
                                    json result = {{"state", "enforced"}};
                                    if (!open->empty()) {
                                      result["kept"] = *open;
                                    }
                                    reply.result(result);
                                  });
            });
  server.on(method::flows, Access::root,
            [&daemon](const Caller&, const json& params, const Reply& reply) {
              daemon.flows().answer(params, *daemon.settings().policy(), reply);
            });
  server.on(method::connections, Access::root,
            [&daemon](const Caller&, const json& params, const Reply& reply) {
              const auto listed = connections_json(daemon, params);
              listed ? reply.result(*listed) : reply.error(listed.error());
            });
  server.on(method::present, Access::root,
            answer([&daemon](const json&) { return present_json(daemon); }));
  server.on(method::policy, Access::root,
            answer([&daemon](const json&) { return policy_json(daemon.settings()); }));
  server.on(method::rules, Access::root,
            answer([&daemon](const json&) { return rules_json(daemon); }));
  server.on(method::words, Access::root,
            answer([&daemon](const json&) { return words_json(daemon); }));
  register_incident_methods(server, daemon);
  server.on(method::survey, Access::root,
            [&daemon](const Caller&, const json&, const Reply& reply) {
              const auto found = survey_json(daemon);
              found ? reply.result(*found) : reply.error(found.error());
            });
  register_change_methods(server, daemon);
}

}  // namespace trireme::daemon
