// SPDX-License-Identifier: Apache-2.0
// What systemd says about units, and what follows from it for [[unit]] entries.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/policy/identity.hpp"
#include "trireme/systemd/bus.hpp"

namespace trireme::systemd {

/// Properties of a unit, by systemd's own names for them.
struct UnitFacts {
  std::string id;               // the name that its cgroup has
  std::set<std::string> names;  // the id and its aliases
  std::string load_state;       // "loaded", "not-found", "masked", ...
  std::string active_state;     // "active", "inactive", ...
  bool default_dependencies = true;
  std::vector<std::string> triggers;      // of a socket: the services that it starts
  std::vector<std::string> triggered_by;  // of a service
  // Services and sockets.
  std::string root;                      // RootDirectory=, or RootImage=
  bool private_network = false;          // PrivateNetwork=
  std::string network_namespace;         // NetworkNamespacePath=
  std::uint32_t stored_descriptors = 0;  // NFileDescriptorStore: now
  std::uint32_t most_descriptors = 0;    // FileDescriptorStoreMax=
  bool accepts = false;                  // Accept= of a socket
  bool has_ip_listener = false;          // Listen*= of a socket
};

/// Of a reply to org.freedesktop.DBus.Properties.GetAll: properties that are missing or of another
/// type keep their defaults.
[[nodiscard]] UnitFacts read_facts(sd_bus_message* reply);

/// Asks for one unit, which systemd loads where it has not; a template's facts are those of an
/// instance. `done` may be called before this returns.
void ask_unit(Bus& bus, const std::string& unit, std::function<void(Result<UnitFacts>)> done);

/// Names that one unit has: by its id, the id included. Of templates too, where their instances
/// have them.
using Aliases = std::map<std::string, std::set<std::string>>;

/// Notes the aliases of a unit that was asked for as `asked`.
void learn_aliases(Aliases& aliases, const UnitFacts& facts);
/// Every name of the unit with this id, as far as `aliases` know.
[[nodiscard]] std::set<std::string> names_of(const Aliases& aliases, const std::string& id);

/// What systemd knows, as far as [[unit]] entries are concerned.
struct UnitView {
  std::set<std::string> gates;               // services and templates that an entry matches
  std::map<std::string, UnitFacts> facts;    // of those, by the name that was asked for
  std::map<std::string, UnitFacts> sockets;  // of every .socket that is loaded, by id
  Aliases aliases;
  std::vector<std::string> warnings;  // of the entries: what can be no workload by them, and why
  /// Units that systemd did not answer about, with the error: what was known of them stays.
  std::map<std::string, std::string> unanswered;
  /// Nothing was known of one of those, so that it may be any unit by another name.
  bool has_unknown = false;
};

/// Asks systemd for everything that the entries of `identity` concern. `last` is what the last look
/// saw. `done` is called once, from the event loop or before this returns, unless the bus goes
/// first.
void look_at_units(Bus& bus, std::shared_ptr<const policy::Identity> identity, UnitView last,
                   std::function<void(Result<UnitView>)> done);

/// The same on a connection of its own, waited for. Empty where there is no systemd that answers
/// within `patience`, and where there is nothing to ask about.
[[nodiscard]] UnitView view_units(const std::shared_ptr<const policy::Identity>& identity,
                                  std::chrono::milliseconds patience);

}  // namespace trireme::systemd
