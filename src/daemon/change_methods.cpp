// SPDX-License-Identifier: Apache-2.0
// The methods of the control socket that change the configuration on disk, and its history.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "caller_user.hpp"
#include "daemon.hpp"
#include "time_text.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::daemon {
namespace {

using control::Access;
using control::Caller;
using control::Reply;
using nlohmann::json;

json outcome_json(Daemon& daemon) {
  const Settings& settings = daemon.settings();
  const config::Digests digests = digests_of(settings.files());
  const auto waiting = daemon.changes().waiting();
  return {{"generation", settings.generation()},
          {"digest", digests.policy},
          {"identity_digest", digests.identity},
          {"rules", settings.policy()->rules.size()},
          {"confirm_until", waiting ? json(time_text(waiting->until)) : json()},
          {"warnings", settings.warnings()}};
}

/// Answers with what is in force after a change, or with its error.
void answer(const Reply& reply, Daemon& daemon, const Status& done) {
  done ? reply.result(outcome_json(daemon)) : reply.error(done.error());
}

json history_json(Daemon& daemon) {
  const config::Digests now = digests_of(daemon.settings().files());
  json list = json::array();
  for (const config::History::Entry& entry : daemon.changes().history().entries()) {
    list.push_back({{"digest", entry.digests.policy},
                    {"identity_digest", entry.digests.identity},
                    {"time", time_text(entry.time)},
                    {"user", entry.user.empty() ? json() : json(entry.user)},
                    {"how", entry.how},
                    {"rules", entry.rules},
                    {"in_force", entry.digests == now},
                    {"rolled_back", entry.rolled_back}});
  }
  return list;
}

config::Digests digests_in(const json& params, const std::string& prefix) {
  return {params.at(prefix + "digest").get<std::string>(),
          params.at(prefix + "identity_digest").get<std::string>()};
}

}  // namespace

json pending_json(const Changes& changes) {
  const auto waiting = changes.waiting();
  if (!waiting) {
    return nullptr;
  }
  return {{"confirm_until", time_text(waiting->until)},
          {"seconds_left", waiting->left.count()},
          {"user", waiting->user},
          {"digest", waiting->files.policy},
          {"identity_digest", waiting->files.identity},
          {"rollback_digest", waiting->before.policy}};
}

void register_change_methods(control::Server& server, Daemon& daemon) {
  namespace method = control::method;
  server.on(method::apply, Access::root,
            [&daemon](const Caller& caller, const json& params, const Reply& reply) {
              answer(reply, daemon,
                     daemon.changes().apply({.staged = params.at("staged").get<std::string>(),
                                             .files = digests_in(params, ""),
                                             .over = digests_in(params, "over_"),
                                             .user = user_of(caller),
                                             .confirm = std::chrono::seconds(
                                                 params.value("confirm", std::int64_t{0}))}));
            });
  server.on(method::confirm, Access::root,
            [&daemon](const Caller& caller, const json&, const Reply& reply) {
              const bool waited = daemon.changes().waiting().has_value();
              if (const Status done = daemon.changes().confirm(user_of(caller)); !done) {
                reply.error(done.error());
                return;
              }
              json outcome = outcome_json(daemon);
              outcome["waited"] = waited;
              reply.result(outcome);
            });
  server.on(
      method::rollback, Access::root,
      [&daemon](const Caller& caller, const json& params, const Reply& reply) {
        answer(reply, daemon,
               daemon.changes().rollback(params.value("digest", std::string()), user_of(caller)));
      });
  server.on(method::history, Access::root,
            [&daemon](const Caller&, const json&, const Reply& reply) {
              reply.result(history_json(daemon));
            });
}

}  // namespace trireme::daemon
