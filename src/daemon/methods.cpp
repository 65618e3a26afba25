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
#include "status_method.hpp"
#include "time_text.hpp"
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

json sources_json(const std::vector<config::Source>& sources) {
  json list = json::array();
  for (const config::Source& source : sources) {
    list.push_back({{"file", source.file}, {"content", source.content}});
  }
  return list;
}

constexpr std::size_t kMostExpiring = 1'000;  // rules that the method `policy` lists

json policy_json(const Settings& settings) {
  json expiring = json::array();
  std::size_t left_out = 0;
  const policy::Now time = settings.rule_time();
  for (const policy::Rule& rule : settings.whole_policy().rules) {
    if (!rule.until) {
      continue;
    }
    if (expiring.size() == kMostExpiring) {
      ++left_out;
      continue;
    }
    expiring.push_back({{"rule", rule.text()},
                        {"until", policy::text(*rule.until)},
                        {"expired", policy::has_expired(rule, time)}});
  }
  return {{"directory", settings.directory()},
          {"generation", settings.generation()},
          {"digest", policy::hex(settings.policy()->digest)},
          {"identity_digest", policy::hex(settings.host()->digest)},
          {"expiring", std::move(expiring)},
          {"expiring_left_out", left_out},
          {"mode", settings.policy()->mode == policy::Mode::audit ? "audit" : "enforce"},
          {"sources", sources_json(settings.policy_sources())},
          {"identity_sources", sources_json(settings.identity_sources())}};
}

json connection_json(const OpenConnections& group) {
  json object = to_json(group.tally);
  object["local"] = group.is_local;
  object["guess"] = group.is_guess;
  object["unproved"] = group.is_unproved;
  for (const auto& [end, has_token] :
       {std::pair("source", group.from_has_token), std::pair("destination", group.to_has_token)}) {
    if (has_token) {
      object[end]["token"] = true;
    }
  }
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
  return json{{"flows", found->flows},       {"unknown", found->unknown},
              {"complete", found->complete}, {"unread_networks", found->unread},
              {"left_out", left_out},        {"connections", std::move(list)}};
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
  server.on(method::traffic, Access::root,
            [&daemon](const Caller&, const json& /*params*/, const Reply& reply) {
              daemon.traffic().answer(reply);
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
