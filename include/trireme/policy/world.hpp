// SPDX-License-Identifier: Apache-2.0
// Who is where, as one daemon knows it, and what each enforcement point takes an endpoint of a flow
// for. The kernel decides on sockets and addresses; predicting its decision by names, labels or
// addresses needs this model.
//
// Rules alone do not show it: an unlabeled process of this host is @host to a workload in its own
// network namespace and @world to one in another, with the address that it has there.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::policy {

/// Plain data. The daemon makes it; the control method `world` sends it to trirectl.
struct World {
  /// An address of a network namespace, with the length of its on-link prefix in bits.
  struct Interface {
    Address address;
    std::uint8_t length = 0;
  };
  /// A network namespace with an enforcement point.
  struct Network {
    std::string name;                  // of its first workload; "this host" for networks[0]
    std::vector<Interface> addresses;  // of a container: as its engine declares them
    std::map<Address, std::vector<std::string>> named = {};  // DNS names learned there
  };
  enum class State : std::uint8_t { enforced, quarantined, unenforced };
  /// A workload of this host.
  struct Resident {
    std::string name;
    LabelSet labels;
    std::uint64_t number = 0;
    State state = State::enforced;
    std::string reason = {};  // why it is not enforced
    /// Indices into `networks`: where its sockets are or were. The first is where it was started.
    /// Empty: not known.
    std::vector<std::size_t> networks = {0};
    std::string unprovable =
        {};  // why its labels cannot be proved to remote hosts; empty: they can
  };

  std::vector<Network> networks = {
      {.name = "this host", .addresses = {}}};  // [0]: the daemon's own
  std::vector<Resident> residents = {};
  /// [host] peers: addresses whose workloads prove their labels. Empty without a credential.
  std::vector<Prefix> peers = {};
  bool has_handshakes = true;  // false: this kernel has no queues for them
  /// DNS names seen in flows, in lower case, with an address that each had.
  std::vector<std::pair<std::string, Address>> seen_names = {};
};

/// An endpoint of a flow: who it is and where.
struct WorldEnd {
  enum class Where : std::uint8_t {
    network,    // World::networks[network]
    beside,     // the network of the other end, or this host's if that is on another host
    peer,       // a host of World::peers
    elsewhere,  // any other host
  };
  Where where = Where::elsewhere;
  std::size_t network = 0;              // index into World::networks, for Where::network
  std::optional<std::size_t> resident;  // index into World::residents
  std::optional<LabelSet> labels;       // of a workload that is no resident
  std::optional<Address> address = {};  // of an end without labels; nullopt: any that it can have
  std::vector<std::string> names = {};  // DNS names that its address counts as having
  /// A process at a peer's address: whether it is a workload, and its labels, are not known here.
  bool may_have_labels = false;
};

/// What an enforcement point takes an endpoint for. Owns what Endpoint points to.
struct View {
  Endpoint::Kind kind = Endpoint::Kind::world;
  LabelSet labels = {};
  std::uint64_t workload = 0;  // as in Endpoint
  std::optional<Address> address = {};
  std::vector<std::size_t> named = {};

  [[nodiscard]] Endpoint endpoint() const;
  /// The networks of `policy` that contain it; none if it is a workload.
  [[nodiscard]] std::vector<std::size_t> networks(const Policy& policy) const;
};

/// What both ends decide about a flow. An end that is not a workload enforces no policy.
struct Ruling {
  enum class End : std::uint8_t { none, source, destination };
  std::optional<Decision> source;
  std::optional<Decision> destination;
  Decision decision;     // of the flow: it passes if both ends let it pass
  End by = End::none;    // the end that decides, and blocks the flow if one does
  bool is_known = true;  // false: it depends on labels that are not known here
  std::string aside;     // why the flow passes or not, if rules do not decide
  View from, to;         // the ends, as the end that decides takes them
};

/// Whether this is the address of Docker's resolver. In the network namespace of a container, that
/// is part of the container.
[[nodiscard]] bool is_resolver(const Address& address);

/// Judges flows between ends of a world, as its enforcement points would. Both must outlive it.
class WorldJudge {
 public:
  WorldJudge(const Policy& policy, const World& world);

  /// A workload in quarantine counts: it has labels, and nothing reaches it.
  [[nodiscard]] bool is_workload(const WorldEnd& end) const;
  /// What the enforcement point of `viewer` takes `end` for. If the address of `end` is not given,
  /// one view for each combination of networks of the policy that can contain it. Never empty. For
  /// an end that may have labels: without labels.
  [[nodiscard]] std::vector<View> views(const WorldEnd& end, const WorldEnd& viewer,
                                        bool is_source) const;
  /// One ruling for each combination of views. Never empty. `port` is the destination's, 0 for
  /// ICMP.
  [[nodiscard]] std::vector<Ruling> decide(const WorldEnd& from, const WorldEnd& to,
                                           std::uint8_t protocol, std::uint16_t port) const;

  [[nodiscard]] const World& world() const { return world_; }
  [[nodiscard]] const NameIndex& names() const { return names_; }
  /// `end` with Where::beside replaced by the network that it stands for.
  [[nodiscard]] static WorldEnd placed(WorldEnd end, const WorldEnd& other);

 private:
  [[nodiscard]] View own_view(const WorldEnd& end) const;
  [[nodiscard]] View at(const WorldEnd& end, const WorldEnd& viewer,
                        const std::optional<Address>& address) const;
  [[nodiscard]] std::vector<std::optional<Address>> addresses(const WorldEnd& end,
                                                              const WorldEnd& viewer,
                                                              bool is_source) const;
  [[nodiscard]] std::optional<Ruling> without_rules(const WorldEnd& from, const WorldEnd& to) const;

  const Policy& policy_;
  const World& world_;
  NameIndex names_;
};

}  // namespace trireme::policy
