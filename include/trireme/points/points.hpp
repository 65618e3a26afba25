// SPDX-License-Identifier: Apache-2.0
// All enforcement points of the daemon: its own network namespace, and every other one that a
// workload has sockets in, each with its own table, queues and sockets.
//
// Another namespace's point is created when its first workload is enrolled and closed when its last
// workload ends. This class does what concerns all points: the set of speakers, policy reloads,
// revocation, and the record of the points at which each cgroup is enrolled.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/points/point.hpp"

namespace trireme::points {

class Points final : public workload::Enforcement {
 public:
  /// Opens the daemon's own point. `verifier` is null where the kernel has no NFQUEUE; no tokens
  /// are exchanged then.
  [[nodiscard]] static Result<std::unique_ptr<Points>> open(
      enforcer::Common& common, verifier::Verifier* verifier, kernel::QueueMechanism mechanism,
      std::shared_ptr<const policy::Policy> policy);

  /// Opens what reports to the observers, at the daemon's own point now and at others when they are
  /// opened. Before anything is enrolled. Errors: another program has the log group or a queue, no
  /// netlink socket, the event loop.
  [[nodiscard]] Status watch(sd_event* loop, Observers observers);

  /// Commits all enrolments, the host's namespace first. Returns an error only if the *host's*
  /// table or the gate cannot be written. A container's namespace that cannot be written (its owner
  /// may hold CAP_NET_ADMIN) is closed with lose() and affects no other point. Until start(),
  /// enrol(), quarantine() and end() only update the model.
  [[nodiscard]] Status start();
  [[nodiscard]] Point& host() { return *host_; }

  Result<policy::Number> enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                               policy::Number number) override;
  Status extend(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                policy::Number number) override;
  Status quarantine(workload::CgroupRef cgroup) override;
  Status end(const workload::CgroupRef& cgroup, policy::Number number) override;
  Status release(const workload::CgroupRef& cgroup, policy::Number number) override;

  /// Applies the new policy at every point, the host's namespace first. On error (of the host's
  /// table or of the gate) the old policy stays in force everywhere. A container's point that
  /// cannot be written has the new policy in its model only and is behind(): repair it.
  [[nodiscard]] Status apply(std::shared_ptr<const policy::Policy> policy);
  /// Addresses of remote hosts, which are asked for tokens ([host] peers); empty if there is no
  /// credential for them.
  void set_peers(std::vector<policy::Prefix> peers);
  /// Networks and addresses of this host's containers, as declared by their engines. Addresses
  /// inside a container's network namespace are not used: the container may have set them itself.
  void set_container_networks(std::vector<policy::Prefix> networks);
  /// Reads this host's addresses again and updates the speakers of every point if they changed.
  void look_at_addresses();

  /// Enforcer::reevaluate_new() at every point. Returns the total, or the first error after all
  /// points were tried.
  [[nodiscard]] Result<std::size_t> reevaluate_new(bool closes);
  /// Numbers in the conntrack labels of any point.
  [[nodiscard]] Result<std::unordered_set<policy::Number>> numbers_in_use();
  /// All points, the host's first.
  [[nodiscard]] std::vector<Point*> all() const;
  [[nodiscard]] std::size_t size() const { return 1 + points_.size(); }
  /// The point of a network namespace by its inode, 0 for the daemon's own. Null: there is none.
  [[nodiscard]] Point* find(std::uint64_t inode) const;

  // --- what all points observe ---

  /// Remembers a workload that has ended for the packets that it still has in the logs.
  void remember_ended(const workload::Workload& workload);
  /// What the gate has refused, as a flow.
  [[nodiscard]] policy::Flow describe(const gate::Refused& refused) const;
  /// Makes the repairs of tables that are due.
  void catch_up();
  /// Closes points of containers whose tables could not be repaired more than once, and calls
  /// on_lost for each. What is written there stays, and may be anything. Returns how many.
  std::size_t lose_unwritable();
  /// Lines for 'trirectl status': tables that are not as they should be.
  [[nodiscard]] std::vector<std::string> problems() const;
  /// How often a table was rewritten.
  [[nodiscard]] std::uint64_t repairs() const;
  /// Times at which the kernel's log messages did not fit.
  [[nodiscard]] std::uint64_t logs_lost() const;
  /// Packets that wait in the verifier's queues.
  [[nodiscard]] std::uint64_t queued() const;
  [[nodiscard]] AnswerCounts answers() const;
  /// Addresses that are in a network by a DNS name.
  [[nodiscard]] std::size_t named() const;

  /// Reads how full conntrack is, in all network namespaces.
  void read_conntrack();
  struct ConntrackUse {
    std::string network;  // kHostNetwork, or as network_names() has it; different for each
    kernel::ConntrackUse::Count count;
    bool full = false;
  };
  /// As it was then, one for each network namespace.
  [[nodiscard]] std::vector<ConntrackUse> conntrack() const;

 private:
  Points(enforcer::Common& common, verifier::Verifier* verifier, kernel::QueueMechanism mechanism,
         std::shared_ptr<const policy::Policy> policy)
      : common_(common), verifier_(verifier), mechanism_(mechanism), policy_(std::move(policy)) {}
  [[nodiscard]] datapath::Layout layout(handshake::PointId point, bool owned) const;
  void lose(Point& point, const Error& error);
  [[nodiscard]] Result<std::unique_ptr<Point>> open_point(
      handshake::PointId id, const std::shared_ptr<const kernel::Netns>& network);
  [[nodiscard]] Result<Point*> point_of(const std::shared_ptr<const kernel::Netns>& network);
  [[nodiscard]] Point* find(const std::shared_ptr<const kernel::Netns>& network) const;
  [[nodiscard]] Status orphan(const workload::CgroupRef& cgroup);
  [[nodiscard]] Status end_at_points(const workload::CgroupRef& cgroup, policy::Number number);
  [[nodiscard]] Status join(const workload::CgroupRef& cgroup,
                            const std::function<Status(enforcer::Enforcer&)>& joins);
  /// A point at which a cgroup is a member. `was_enrolled` is false if the cgroup has only been
  /// quarantined there, because its network namespace is not known yet.
  struct Membership {
    workload::CgroupRef cgroup;
    bool was_enrolled = false;
  };
  Status record_membership(const workload::CgroupRef& cgroup, bool enrolled);
  void close_if_empty(Point& point);
  void close(Point& point);
  void update_speakers();
  [[nodiscard]] std::vector<policy::Prefix> find_near() const;

  enforcer::Common& common_;
  const std::uint64_t home_ = kernel::netns_cookie();
  verifier::Verifier* verifier_;
  kernel::QueueMechanism mechanism_;
  std::shared_ptr<const policy::Policy> policy_;
  sd_event* loop_ = nullptr;
  std::optional<Observers> observers_;  // from watch() on
  LogTurns log_turns_;
  std::unique_ptr<Point> host_;
  std::map<std::uint64_t, std::unique_ptr<Point>> points_;        // by inode of the namespace
  std::map<std::uint64_t, std::vector<Membership>> memberships_;  // by cgroup id
  std::vector<policy::Prefix> peers_;
  std::vector<policy::Prefix> container_networks_;
  std::vector<policy::Prefix> own_addresses_;
  std::vector<policy::Prefix> speakers_;  // union of the three lists above
  std::vector<policy::Prefix> near_;      // see find_near()
  handshake::PointId last_id_ = 0;
  bool live_ = false;
};

}  // namespace trireme::points
