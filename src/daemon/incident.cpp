// SPDX-License-Identifier: Apache-2.0
#include "incident.hpp"

#include <algorithm>

#include "caller_user.hpp"
#include "trireme/control/methods.hpp"
#include "workload_json.hpp"

namespace trireme::daemon {
namespace {

using control::Caller;
using control::Reply;
using nlohmann::json;

constexpr std::size_t kLongestReason = 200;  // bytes; the text is in listings and log lines

/// Error: the text is too long for one line of a listing, or has control characters.
Status check_text(const std::string& what, const std::string& text) {
  if (text.size() > kLongestReason) {
    return fail(what + " is longer than " + std::to_string(kLongestReason) + " bytes");
  }
  const bool is_line = std::ranges::none_of(
      text, [](char byte) { return static_cast<unsigned char>(byte) < ' ' || byte == 0x7F; });
  return is_line ? Status{} : fail(what + " must not contain control characters");
}

json live_json(Daemon& daemon, const std::string& name) {
  const workload::Workload* workload = daemon.registry().find_name(name);
  return workload == nullptr
             ? json()
             : workload_json(*workload, daemon.registry(), *daemon.settings().host());
}

void quarantine(Daemon& daemon, const Caller& caller, const json& params, const Reply& reply) {
  const auto name = params.at("name").get<std::string>();
  const std::string reason = params.value("reason", "");
  if (const Status checked = check_text("the reason", reason); !checked) {
    reply.error(checked.error());
    return;
  }
  const Status held = daemon.registry().hold(name, user_of(caller), reason);
  held ? reply.result(live_json(daemon, name)) : reply.error(held.error());
}

void release(Daemon& daemon, const Caller& caller, const json& params, const Reply& reply) {
  const auto name = params.at("name").get<std::string>();
  const Status ended = daemon.registry().end_hold(name, user_of(caller));
  // A container or unit stays in quarantine until its source has decided about it.
  if (ended) {
    daemon.configure_sources();
  }
  ended ? reply.result(live_json(daemon, name)) : reply.error(ended.error());
}

}  // namespace

void register_incident_methods(control::Server& server, Daemon& daemon) {
  namespace method = control::method;
  server.on(method::quarantine, control::Access::root,
            [&daemon](const Caller& caller, const json& params, const Reply& reply) {
              quarantine(daemon, caller, params, reply);
            });
  server.on(method::release, control::Access::root,
            [&daemon](const Caller& caller, const json& params, const Reply& reply) {
              release(daemon, caller, params, reply);
            });
}

}  // namespace trireme::daemon
