// SPDX-License-Identifier: Apache-2.0
// Every enforcement point of the daemon: its own network namespace, and those of containers, each
// with a table, queues and sockets there.
//
// A container's point is made when its first workload is enrolled, and goes when its last one ends.
// What all points share is done here: which addresses speak tokens, policy, revocation, and where a
// cgroup is enrolled.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/kernel/addresses.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/verifier/verifier.hpp"

namespace trireme::enforcer {

struct Point {
  handshake::PointId id = handshake::kHome;
  std::shared_ptr<const kernel::Netns> network;  // null: the daemon's own
  std::unique_ptr<Enforcer> enforcer;
  std::unique_ptr<kernel::AddressWatch> addresses;  // of the daemon's own: null elsewhere
};

class Points final : public workload::Enforcement {
 public:
  /// Opens the daemon's own point. `verifier` may be null: this kernel has no queues, and nothing
  /// is exchanged with other points.
  [[nodiscard]] static Result<std::unique_ptr<Points>> open(
      Common& common, verifier::Verifier* verifier, kernel::QueueMechanism mechanism,
      std::shared_ptr<const policy::Policy> policy);

  /// Called when a container's point is there (inside its namespace: sockets opened then are
  /// there), and before it goes. An error of `on_open` keeps its workload in quarantine.
  std::function<Status(Point&)> on_open;
  std::function<void(Point&)> on_close;
  /// Called when a container's point is lost: what was enrolled in that network has to be
  /// quarantined, and enrolled again when it can be.
  std::function<void(const std::shared_ptr<const kernel::Netns>&, const Error&)> on_lost;

  /// Puts everything enrolled so far in force, this host first: an error is this host's. A
  /// container's point that cannot be written is lost: who has CAP_NET_ADMIN there can see to that,
  /// and must harm nobody else by it. Before it enrol() and the others only remember.
  [[nodiscard]] Status start();
  /// A container's point that cannot be written: closes it, and calls on_lost. What is written
  /// there stays, and may be anything.
  void lose(Point& point, const Error& error);
  [[nodiscard]] Enforcer& host() { return *host_.enforcer; }
  [[nodiscard]] Point& host_point() { return host_; }

  Result<policy::Number> enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                               policy::Number number) override;
  Status extend(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                policy::Number number) override;
  Status quarantine(workload::CgroupRef cgroup) override;
  Status end(const workload::CgroupRef& cgroup, policy::Number number) override;
  Status release(const workload::CgroupRef& cgroup, policy::Number number) override;

  /// The new policy everywhere, this host first: an error is this host's, and nothing has changed
  /// then. A container's point that refuses is behind(): to be repaired with it.
  [[nodiscard]] Status apply(std::shared_ptr<const policy::Policy> policy);
  /// Peers elsewhere that are expected to speak tokens; empty where there is no credential for
  /// them.
  void set_peers(std::vector<policy::Prefix> peers);
  /// Where containers of this host can be reached, as their engines declare it: what is in a
  /// container's network namespace may be the container's own doing.
  void set_container_networks(std::vector<policy::Prefix> networks);
  /// Looks at this host's addresses again; brings every point up to date where speakers have
  /// changed.
  void look_at_addresses();

  /// As Enforcer's, at every point. The first error, after all were tried.
  [[nodiscard]] Result<std::size_t> settle();
  /// Numbers that flows bear at any point.
  [[nodiscard]] Result<std::unordered_set<policy::Number>> numbers_in_use();
  /// This host's first.
  [[nodiscard]] std::vector<Point*> all();
  [[nodiscard]] std::size_t size() const { return 1 + points_.size(); }

 private:
  Points(Common& common, verifier::Verifier* verifier, kernel::QueueMechanism mechanism,
         std::shared_ptr<const policy::Policy> policy)
      : common_(common), verifier_(verifier), mechanism_(mechanism), policy_(std::move(policy)) {}
  [[nodiscard]] Layout layout(handshake::PointId point, bool owned) const;
  [[nodiscard]] Status open_here(Point& point, bool owned);
  [[nodiscard]] Result<Point*> point_of(const std::shared_ptr<const kernel::Netns>& network);
  [[nodiscard]] Point* find(const std::shared_ptr<const kernel::Netns>& network);
  [[nodiscard]] Status orphan(const workload::CgroupRef& cgroup);
  [[nodiscard]] Status end_at_points(const workload::CgroupRef& cgroup, policy::Number number);
  [[nodiscard]] Status join(const workload::CgroupRef& cgroup,
                            const std::function<Status(Enforcer&)>& joins);
  /// Where a cgroup is: enrolled, perhaps in quarantine since, or only in quarantine because its
  /// network is not known yet.
  struct Home {
    workload::CgroupRef cgroup;
    bool was_enrolled = false;
  };
  Status come_home(const workload::CgroupRef& cgroup, bool enrolled);
  void close_if_empty(Point& point);
  void close(Point& point);
  void spread_speakers();
  [[nodiscard]] std::vector<policy::Prefix> find_near() const;

  Common& common_;
  const std::uint64_t home_ = kernel::netns_cookie();
  verifier::Verifier* verifier_;
  kernel::QueueMechanism mechanism_;
  std::shared_ptr<const policy::Policy> policy_;
  Point host_;
  std::map<std::uint64_t, std::unique_ptr<Point>> points_;  // by inode of the namespace
  std::map<std::uint64_t, std::vector<Home>> homes_;        // by cgroup id
  std::vector<policy::Prefix> peers_;
  std::vector<policy::Prefix> container_networks_;
  std::vector<policy::Prefix> own_addresses_;
  std::vector<policy::Prefix> speakers_;  // all of these
  std::vector<policy::Prefix> near_;      // those that can be on no other host
  handshake::PointId last_id_ = 0;
  bool live_ = false;
};

}  // namespace trireme::enforcer
