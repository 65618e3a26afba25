// SPDX-License-Identifier: Apache-2.0
// What systemd reports about units, and which units the [[unit]] entries match.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/config/loader.hpp"
#include "trireme/systemd/bus.hpp"

namespace trireme::systemd {

/// Properties of a unit, with systemd's names for them in the comments.
struct UnitFacts {
  std::string id;               // the primary name, which its cgroup has
  std::set<std::string> names;  // the id and its aliases
  std::string load_state;       // "loaded", "not-found", "masked", ...
  std::string active_state;     // "active", "inactive", ...
  bool default_dependencies = true;
  std::vector<std::string> triggers;      // of a socket: the services that it starts
  std::vector<std::string> triggered_by;  // of a service: the sockets and timers that start it
  // Services and sockets.
  std::string root;                      // RootDirectory=, or RootImage=
  bool private_network = false;          // PrivateNetwork=
  std::string network_namespace;         // NetworkNamespacePath=
  std::uint32_t stored_descriptors = 0;  // NFileDescriptorStore: the current count
  std::uint32_t most_descriptors = 0;    // FileDescriptorStoreMax=
  bool accepts = false;                  // Accept= of a socket
  bool has_ip_listener = false;          // Listen*= of a socket
};

/// Reads a reply to org.freedesktop.DBus.Properties.GetAll. Properties that are missing or have an
/// unexpected type keep their defaults.
[[nodiscard]] UnitFacts read_facts(sd_bus_message* reply);

/// Queries one unit, which systemd loads if necessary. For a template, an instance is queried.
/// `done` may be called before this returns.
void ask_unit(Bus& bus, const std::string& unit, std::function<void(Result<UnitFacts>)> done);

/// All names of a unit, the id included, by its id. Also contains templates whose instances have
/// aliases.
using Aliases = std::map<std::string, std::set<std::string>>;

/// Records the aliases of a unit.
void learn_aliases(Aliases& aliases, const UnitFacts& facts);
/// Every name of the unit with this id that `aliases` contains, and the id itself.
[[nodiscard]] std::set<std::string> names_of(const Aliases& aliases, const std::string& id);

/// What systemd reports about the units that [[unit]] entries match.
struct UnitView {
  std::set<std::string> gates;               // services and templates that must wait
  std::map<std::string, UnitFacts> facts;    // of the gates, by the name that was queried
  std::map<std::string, UnitFacts> sockets;  // of every loaded .socket, by id
  Aliases aliases;
  std::vector<config::Diagnostic> warnings;  // entries that make no unit a workload, and why
  /// Units whose query failed, with the error. Their facts of the previous view are kept.
  std::map<std::string, std::string> unanswered;
  /// True if there were no earlier facts of one of the unanswered units. Its name may then be an
  /// alias of any unit.
  bool has_unknown = false;
};

/// Queries systemd about all units that the [[unit]] entries of `host` concern, and about `held`:
/// services that an operator's order covers, which must wait at their start also without an entry.
/// `last` is the result of the previous query. `done` is called once, from the event loop or before
/// this returns, unless the bus is destroyed first.
void look_at_units(Bus& bus, std::shared_ptr<const config::Host> host, std::set<std::string> held,
                   UnitView last, std::function<void(Result<UnitView>)> done);

/// Like look_at_units(), but on its own connection, and blocks until the result is there. Empty if
/// systemd does not answer within `patience`, or if there are no [[unit]] entries.
[[nodiscard]] UnitView view_units(const std::shared_ptr<const config::Host>& host,
                                  std::chrono::milliseconds patience = std::chrono::seconds(3));

}  // namespace trireme::systemd
