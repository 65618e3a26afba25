// SPDX-License-Identifier: Apache-2.0
// Keeps the kernel's table equal to registry x policy. A change of workloads is one nf_tables
// transaction. A change of policy, and a rewrite of the table, is one between two small ones: see
// begin_exchange().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "trireme/datapath/table.hpp"
#include "trireme/enforcer/seen_names.hpp"
#include "trireme/handshake/flow_key.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/conntrack.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/nft_watch.hpp"
#include "trireme/kernel/packet_log.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/names/answer.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/numbers.hpp"
#include "trireme/verifier/identities.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::enforcer {

class LocalPolicy;

/// What the enforcers of all network namespaces share. Must outlive them.
struct Common {
  const kernel::CgroupTree& tree;
  policy::Numbers& numbers;
  const verifier::Identities& identities;
  /// The policy of the gate, which judges local traffic at its sockets.
  LocalPolicy& local;
  /// on_join is called before the first packet at an enforcement point can have the workload's
  /// number; `labels` is null if the number is already in use at another point or cgroup. on_leave
  /// is called after the last packet with it; `is_last` is true if the number is then in use
  /// nowhere. Both are called once for each cgroup at each point.
  std::function<void(std::uint32_t point, policy::Number, const policy::LabelSet* labels)> on_join =
      {};
  std::function<void(std::uint32_t point, policy::Number, bool is_last)> on_leave = {};
  /// Proved UDP flows at an enforcement point whose client is a workload there.
  std::function<std::vector<handshake::FlowKey>(std::uint32_t)> clients = {};
  /// Whether the ends of a TCP connection have proved their labels, as far as the verifier knows.
  std::function<bool(const handshake::FlowKey&)> is_proved = {};
  /// Called with all DNS names of an address at an enforcement point whenever they change.
  std::function<void(std::uint32_t, const policy::Address&, std::vector<std::string>)> on_named =
      {};
};

/// The enforcer of one network namespace.
class Enforcer final : public workload::Enforcement {
 public:
  /// Opens netlink sockets in the current network namespace. Changes nothing in the kernel.
  [[nodiscard]] static Result<std::unique_ptr<Enforcer>> open(
      Common& common, datapath::Layout layout, std::shared_ptr<const policy::Policy> policy);

  /// Replaces the table, if there is one, with everything enrolled so far. There is no moment
  /// without rules. Until start(), enrol(), quarantine() and end() only update the model.
  [[nodiscard]] Status start();

  Result<policy::Number> enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                               policy::Number number) override;
  Status extend(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                policy::Number number) override;
  Status quarantine(workload::CgroupRef cgroup) override;
  Status end(const workload::CgroupRef& cgroup, policy::Number number) override;

  /// Writes a new policy. On error the old one stays in force in the kernel and in this object.
  /// Call revoke() afterwards for open flows.
  [[nodiscard]] Status apply(std::shared_ptr<const policy::Policy> policy) {
    return apply(std::move(policy), OnError::keep_old);
  }
  /// Like apply(), but on error this object has the new policy and is behind().
  void apply_soon(std::shared_ptr<const policy::Policy> policy) {
    std::ignore = apply(std::move(policy), OnError::owe_new);
  }

  /// Addresses to which requests go by way of the verifier: disjoint and sorted prefixes. On error
  /// the old ones stay in force in the kernel and in this object.
  [[nodiscard]] Status set_speakers(std::vector<policy::Prefix> speakers);

  /// Clears the verdict of open flows that the policy in force does not allow, and closes local
  /// connections that the gate would block. Returns the number of flows whose verdict was cleared.
  /// Call it after apply(), and again shortly after: a packet that was judged by the old policy may
  /// have marked its flow in between.
  /// Connections on `lo` are closed only if `closes`; the gate refuses their packets in any case.
  [[nodiscard]] Result<std::size_t> revoke(bool closes = true);
  /// The numbers in the labels of all conntrack entries, including those of remote identities.
  [[nodiscard]] Result<std::unordered_set<policy::Number>> numbers_in_use();

  /// Re-evaluates the flows that cgroups had before they were enrolled, for all enrolled since the
  /// last call. The conntrack entries of their sockets lose their verdict bits (TCP) or are removed
  /// (UDP), so that the next packet is judged. The same for cgroups that are no workloads any more;
  /// those of their flows in which they have proved labels end. The daemon calls this at the end of
  /// each loop iteration. Returns the number of flows. `closes` as in revoke(); if false, call
  /// revoke() later.
  [[nodiscard]] Result<std::size_t> reevaluate_new(bool closes = true);

  /// Rewrites everything, as start() does, after another program changed the table.
  [[nodiscard]] Status repair() { return start(); }
  /// A watch that reports changes of the table by other programs.
  [[nodiscard]] Result<kernel::NftWatch> watch() const {
    return kernel::NftWatch::open(abi::kTable, socket_.port());
  }
  /// True if the kernel refused a change that this object has in its model: call repair().
  [[nodiscard]] bool behind() const { return behind_; }

  [[nodiscard]] const policy::Policy& policy() const;
  /// Label set of an enrolled workload; null if the number is not enrolled here.
  [[nodiscard]] const policy::LabelSet* labels(policy::Number number) const;

  // --- addresses of names (docs/datapath.md, "Names") ---

  [[nodiscard]] bool has_queues() const { return layout_.queues > 0; }
  /// True if the policy has a network with this DNS name (lower case, no final dot), exactly or by
  /// a wildcard.
  [[nodiscard]] bool knows_name(const std::string& name) const;
  /// The reason to ignore a DNS answer in a packet with these ends (as the receiver gets it);
  /// nullopt if the answer is accepted. `priority` is the packet's: on lo the sender's stamp,
  /// elsewhere the receiver's number. The workload that sent the query must belong to this
  /// enforcement point, and a *rule* must allow it to reach the server: a server that it runs
  /// itself or that only the baseline allows could cooperate with it to open any address.
  [[nodiscard]] std::optional<std::string> doubt(std::uint8_t protocol, const wire::Ends& ends,
                                                 std::uint32_t priority);
  /// Adds the addresses to their networks, in one transaction. On error they may not be in force.
  [[nodiscard]] Status learn(const std::vector<names::Answer>& answers);
  /// In audit mode, remembers the names that the policy does not have, for names() alone: what the
  /// workload that sent the query connects to is then shown, and suggested, by name. `protocol`,
  /// `ends` and `priority` as for doubt().
  void observe(const std::vector<names::Answer>& answers, std::uint8_t protocol,
               const wire::Ends& ends, std::uint32_t priority);
  /// Removes addresses whose TTL has expired and that no authorized flow uses. Call it every
  /// kNamesRound.
  [[nodiscard]] Status end_names();
  static constexpr std::chrono::seconds kNamesRound{15};
  /// Networks (indices into Policy::networks) that an address is in by DNS name; names() returns
  /// the names, or one that only `asker` has asked for, all_names() those of every such address,
  /// named() the number of such addresses.
  [[nodiscard]] std::vector<std::size_t> named_networks(const policy::Address& address) const;
  [[nodiscard]] std::vector<std::string> names(const policy::Address& address,
                                               policy::Number asker) const;
  [[nodiscard]] std::map<policy::Address, std::vector<std::string>> all_names() const;
  [[nodiscard]] std::size_t named() const;

  /// The set `refused`, for the flow log; empty if it cannot be read.
  [[nodiscard]] std::vector<kernel::NftListed> refused_elements();
  /// Makes the sets of UDP clients equal to `wanted`. Rules add elements, and these elements have
  /// no timeout, so the daemon must remove them.
  [[nodiscard]] Status keep_clients(std::vector<handshake::FlowKey> wanted);
  /// Calls `function` with every conntrack entry of this network namespace.
  [[nodiscard]] Status each_flow(const std::function<void(const kernel::TrackedFlow&)>& function) {
    return conntrack_.each(function);
  }
  /// The conntrack entry of a packet with this tuple, in either direction.
  [[nodiscard]] std::optional<kernel::TrackedFlow> find_flow(std::uint8_t protocol,
                                                             const kernel::FlowTuple& tuple);
  [[nodiscard]] std::optional<kernel::TrackedFlow> find_flow(const kernel::LoggedPacket& packet);
  /// TCP connections of all processes in this network namespace, including closed ones that the
  /// kernel still keeps (such as TIME_WAIT).
  [[nodiscard]] Result<std::vector<kernel::InetSocket>> connections() {
    return sockets_.connections();
  }
  ~Enforcer() override;
  [[nodiscard]] std::size_t enrolled() const { return labels_.size(); }
  /// True if no cgroup is enrolled or quarantined here.
  [[nodiscard]] bool empty() const { return members_.empty(); }
  /// Removes the table and the verdicts of flows, so that everything passes, and closes the
  /// connections in which labels were proved. For a network namespace that has no workloads left.
  [[nodiscard]] Status remove();
  /// Forgets everything enrolled. The table in the kernel stays and is not written again.
  void abandon();

 private:
  enum class OnError : std::uint8_t { keep_old, owe_new };
  Status apply(std::shared_ptr<const policy::Policy> policy, OnError on_error);
  Enforcer(kernel::NftSocket socket, kernel::Conntrack conntrack, kernel::SocketTable sockets,
           Common& common, datapath::Layout layout, std::shared_ptr<const policy::Policy> policy);
  struct Member {
    std::uint32_t level = 0;                 // of its cgroup; 0: it has none that rules can match
    policy::Number number = 0;               // abi::kQuarantine or a workload's
    bool is_owner = false;                   // owns all sockets here that no other member owns
    std::vector<std::uint64_t> former = {};  // as in CgroupRef
    bool may_have_old_flows = false;         // in quarantine: begun before it, so not judged since
  };

  /// What a cgroup was here before a change.
  struct Former {
    std::optional<Member> member = std::nullopt;
    std::optional<policy::LabelSet> labels = std::nullopt;  // unless it was quarantined
  };
  struct Change;
  struct Version;
  [[nodiscard]] std::unique_ptr<Version> compile(
      std::shared_ptr<const policy::Policy> policy) const;
  Status exchange(const Version& next);
  Status commit(const Change& change);
  Status recall_names();
  void report_names(const std::set<policy::Address>& addresses) const;
  Status write_names(const std::set<policy::Address>& written,
                     const std::set<policy::Address>& gone);
  Status write_everything(const Version& version);
  [[nodiscard]] std::vector<handshake::FlowKey> clients() const;
  void begin_exchange();
  Status end_exchange();
  void note_old_flows(const workload::CgroupRef& cgroup);
  [[nodiscard]] bool may_have_sockets(const workload::CgroupRef& cgroup) const;
  [[nodiscard]] std::unordered_set<std::uint64_t> with_descendants(
      std::vector<std::string> paths) const;
  void remember(std::uint64_t cgroup_id, Member member);
  void note_owner(const workload::CgroupRef& cgroup);
  void join_sets(Change& change, const workload::CgroupRef& cgroup, policy::Number number);
  static void leave_sets(Change& change, std::uint64_t cgroup_id, const Member& member);
  [[nodiscard]] Former withdraw(Change& change, std::uint64_t cgroup_id);
  void restore(std::uint64_t cgroup_id, const Former& former);
  void forget(std::uint64_t cgroup_id);
  [[nodiscard]] bool allows(const kernel::TrackedFlow& flow) const;
  [[nodiscard]] bool is_local(const kernel::TrackedFlow& flow) const;
  [[nodiscard]] Result<std::size_t> end_connections();
  [[nodiscard]] bool is_proved(const kernel::InetSocket& socket) const;
  [[nodiscard]] Status end_proved(const std::unordered_set<std::uint64_t>* cgroups);
  [[nodiscard]] Status take_back(const kernel::TrackedFlow& flow);
  [[nodiscard]] Status check_level(const workload::CgroupRef& cgroup) const;
  [[nodiscard]] bool knows(policy::Number number) const;
  [[nodiscard]] bool agrees(policy::Number source, policy::Number destination,
                            std::uint8_t protocol, std::uint16_t port) const;
  [[nodiscard]] Status reevaluate(const kernel::TrackedFlow& flow);
  Status join(const workload::CgroupRef& cgroup, const policy::LabelSet& labels,
              policy::Number number);
  void leave(policy::Number number);
  [[nodiscard]] std::uint32_t depth() const;

  kernel::NftSocket socket_;
  kernel::Conntrack conntrack_;
  kernel::SocketTable sockets_;
  Common& common_;
  const datapath::Layout layout_;
  const kernel::CgroupTree& tree_;
  std::unique_ptr<Version> version_;                   // in force
  std::unordered_map<std::uint64_t, Member> members_;  // by cgroup id
  std::unordered_map<policy::Number, policy::LabelSet> labels_;
  std::map<std::uint32_t, std::size_t> levels_;  // number of members at each level
  std::uint32_t written_depth_ = 0;
  std::vector<policy::Prefix> speakers_;
  std::vector<std::string> with_old_flows_;  // cgroup paths, for reevaluate_new()
  std::vector<std::string> released_;        // the same: of cgroups that are no workloads any more
  bool all_with_old_flows_ = false;          // reevaluate_new() takes all flows: the owner is new
  bool unowned_ = false;                     // CgroupRef::unowned of the first cgroup enrolled here
  bool live_ = false;
  bool behind_ = false;
  bool has_answers_hook_ = false;  // in the table as last written
  SeenNames seen_names_;
};

struct Flushed {
  bool table = false;          // the table in this network namespace existed
  std::size_t containers = 0;  // tables removed from network namespaces of containers
  std::size_t workloads = 0;   // records removed from cgroups
};

/// Removes everything that enforcement has left in the kernel: the table here, the tables that the
/// daemon of this network namespace wrote in others, the verdicts of flows, the gate, and the
/// records on cgroups; also the files of remote identities in `runtime_dir`. Everything passes from
/// then on. Fails if a daemon runs in this network namespace.
[[nodiscard]] Result<Flushed> flush(const kernel::CgroupTree& tree, const std::string& runtime_dir);

}  // namespace trireme::enforcer
