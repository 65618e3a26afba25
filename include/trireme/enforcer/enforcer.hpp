// SPDX-License-Identifier: Apache-2.0
// Keeps the kernel equal to registry x policy: every change is one nf_tables transaction, the old
// state or the new.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "trireme/enforcer/ruleset.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/conntrack.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/nft_watch.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/names/answer.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/numbers.hpp"
#include "trireme/verifier/identities.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::enforcer {

class NameBook;
class LocalPolicy;

/// What the enforcers of all network namespaces share; outlives them.
struct Common {
  const kernel::CgroupTree& tree;
  policy::Numbers& numbers;
  const verifier::Identities& identities;
  /// What judges local traffic at its sockets.
  LocalPolicy& local;
  /// A workload's number, before the first packet at this enforcement point can bear it, with the
  /// labels where it is new; and after the last one there, and of all where `is_last`. Once for
  /// each cgroup.
  std::function<void(std::uint32_t point, policy::Number, const policy::LabelSet* labels)> on_join =
      {};
  std::function<void(std::uint32_t point, policy::Number, bool is_last)> on_leave = {};
  /// The workloads' UDP flows at an enforcement point that were proved, of clients.
  std::function<std::vector<handshake::FlowKey>(std::uint32_t)> clients = {};
  /// The names of an address at an enforcement point, whenever they change.
  std::function<void(std::uint32_t, const policy::Address&, std::vector<std::string>)> on_named =
      {};
};

/// Of one network namespace.
class Enforcer final : public workload::Enforcement {
 public:
  /// Opens the netlink sockets of the present network namespace; changes nothing yet.
  [[nodiscard]] static Result<std::unique_ptr<Enforcer>> open(
      Common& common, Layout layout, std::shared_ptr<const policy::Policy> policy);

  /// Replaces whatever table is there by ours, with everything enrolled so far, in one transaction:
  /// there is no moment without rules. Before start(), enrol() and the others only remember.
  [[nodiscard]] Status start();

  Result<policy::Number> enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                               policy::Number number) override;
  Status extend(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                policy::Number number) override;
  Status quarantine(workload::CgroupRef cgroup) override;
  Status end(const workload::CgroupRef& cgroup, policy::Number number) override;

  /// Writes a new policy; on error the kernel and this object still hold the old one. Live flows
  /// are revoked by revoke().
  [[nodiscard]] Status apply(std::shared_ptr<const policy::Policy> policy) {
    return apply(std::move(policy), OnError::keep_old);
  }
  /// The same, but on error this object has the new one, and is behind().
  void apply_soon(std::shared_ptr<const policy::Policy> policy) {
    std::ignore = apply(std::move(policy), OnError::owe_new);
  }

  /// Addresses at which peers are expected to speak tokens, disjoint and sorted. On error the
  /// kernel and this object keep what they had.
  [[nodiscard]] Status set_speakers(std::vector<policy::Prefix> speakers);

  /// Takes the authorisation from live flows that the policy in force does not allow, ends local
  /// connections that the gate would not let go on, and returns how many flows lost it. Called
  /// after apply(), and once more shortly after: a packet judged by the old policy may have marked
  /// its flow in between.
  [[nodiscard]] Result<std::size_t> revoke();
  /// The numbers that flows in force bear, those of peers elsewhere among them.
  [[nodiscard]] Result<std::unordered_set<policy::Number>> numbers_in_use();

  /// Judges anew the flows that cgroups enrolled since the last call already had: their sockets'
  /// entries lose their bits (TCP) or go (UDP), and the next packet is judged. The daemon calls it
  /// before it sleeps. Returns how many flows.
  [[nodiscard]] Result<std::size_t> settle();

  /// Writes everything anew, as start() does: after somebody else changed the table.
  [[nodiscard]] Status repair() { return start(); }
  /// Hears when somebody else changes the table.
  [[nodiscard]] Result<kernel::NftWatch> watch() const {
    return kernel::NftWatch::open(kTable, socket_.port());
  }
  /// True where the kernel refused a change that this object has made: repair() is due.
  [[nodiscard]] bool behind() const { return behind_; }

  [[nodiscard]] const policy::Policy& policy() const { return *policy_; }
  /// Label set of a workload that is enrolled, or null.
  [[nodiscard]] const policy::LabelSet* labels(policy::Number number) const;
  // --- addresses of names (docs/datapath.md, "Names") ---

  [[nodiscard]] bool has_queues() const { return layout_.queues > 0; }
  /// Whether policy has a network with this name: lower case, no final dot.
  [[nodiscard]] bool knows_name(const std::string& name) const;
  /// Why an answer in a packet with these ends, as its receiver gets it, tells nothing; nullopt
  /// where it counts. `priority` is the packet's: on lo the gate's stamp of who has sent it, else
  /// the receiver's number. Who asked has to be a workload of this enforcement point, and a rule
  /// has to let that ask this server: its own, and those of the baseline, could be its accomplices.
  [[nodiscard]] std::optional<std::string> doubt(std::uint8_t protocol, const wire::Ends& ends,
                                                 std::uint32_t priority);
  /// Puts the addresses into their networks, in one transaction. On error they may not be in force.
  [[nodiscard]] Status hear(const std::vector<names::Answer>& answers);
  /// Takes addresses out whose time is over and that no authorised flow uses. To be called every
  /// kNamesRound.
  [[nodiscard]] Status end_names();
  static constexpr std::chrono::seconds kNamesRound{15};
  /// Networks (indices into the policy's) that an address is in by name, and which names those are.
  [[nodiscard]] std::vector<std::size_t> named_networks(const policy::Address& address) const;
  [[nodiscard]] std::vector<std::string> names(const policy::Address& address) const;
  [[nodiscard]] std::vector<policy::Address> addresses(const std::string& name) const;
  [[nodiscard]] std::size_t named() const;

  /// Keys of the set `refused`, for the flow log; empty where it cannot be read.
  [[nodiscard]] std::vector<std::vector<std::uint8_t>> refused_keys();
  /// Makes the sets of UDP clients what is wanted: rules enter them, and nothing takes them out by
  /// itself.
  [[nodiscard]] Status keep_clients(std::vector<handshake::FlowKey> wanted);
  /// Every conntrack entry here, to look at.
  [[nodiscard]] Status each_flow(const std::function<void(const kernel::TrackedFlow&)>& function) {
    return conntrack_.each(function);
  }
  /// The conntrack entry that a packet with this tuple belongs to, in either direction.
  [[nodiscard]] std::optional<kernel::TrackedFlow> find_flow(std::uint8_t protocol,
                                                             const kernel::FlowTuple& tuple);
  /// TCP connections of this network namespace, of whatever process, also what is left of closed
  /// ones.
  [[nodiscard]] Result<std::vector<kernel::InetSocket>> connections() {
    return sockets_.connections();
  }
  ~Enforcer() override;
  [[nodiscard]] std::size_t enrolled() const { return labels_.size(); }
  /// Whether nothing is enrolled or quarantined here.
  [[nodiscard]] bool empty() const { return members_.empty(); }
  /// Takes the table and the verdicts of flows away: whatever was refused passes. For a namespace
  /// whose workloads are none any more.
  [[nodiscard]] Status remove();
  /// Gives up everything enrolled; the kernel keeps what it has, and hears nothing more.
  void abandon();

 private:
  enum class OnError : std::uint8_t { keep_old, owe_new };
  Status apply(std::shared_ptr<const policy::Policy> policy, OnError on_error);
  Enforcer(kernel::NftSocket socket, kernel::Conntrack conntrack, kernel::SocketTable sockets,
           Common& common, Layout layout, std::shared_ptr<const policy::Policy> policy);
  struct Member {
    std::uint32_t level = 0;                 // of its cgroup; 0: it has none that rules could see
    policy::Number number = 0;               // kQuarantine or a workload's
    bool is_owner = false;                   // of the namespace: also what no other member has
    std::vector<std::uint64_t> former = {};  // as in CgroupRef
  };

  struct Change;
  Status commit(const Change& change);
  Status recall_names();
  void tell_names(const std::set<policy::Address>& addresses) const;
  Status write_names(const std::set<policy::Address>& written,
                     const std::set<policy::Address>& gone);
  Status write_everything();
  [[nodiscard]] std::vector<handshake::FlowKey> clients() const;
  void begin_exchange();
  Status end_exchange();
  void note_unsettled(const workload::CgroupRef& cgroup);
  void remember(std::uint64_t cgroup_id, Member member);
  void note_owner(const workload::CgroupRef& cgroup);
  void join_sets(Change& change, const workload::CgroupRef& cgroup, policy::Number number);
  static void leave_sets(Change& change, std::uint64_t cgroup_id, const Member& member);
  void forget(std::uint64_t cgroup_id);
  [[nodiscard]] bool allows(const kernel::TrackedFlow& flow) const;
  [[nodiscard]] bool is_local(const kernel::TrackedFlow& flow) const;
  [[nodiscard]] Result<std::size_t> end_connections();
  [[nodiscard]] Status take_back(const kernel::TrackedFlow& flow);
  [[nodiscard]] Status check_level(const workload::CgroupRef& cgroup) const;
  [[nodiscard]] bool knows(policy::Number number) const;
  [[nodiscard]] bool agrees(policy::Number source, policy::Number destination,
                            std::uint8_t protocol, std::uint16_t port) const;
  [[nodiscard]] Status judge_anew(const kernel::TrackedFlow& flow);
  Status join(const workload::CgroupRef& cgroup, const policy::LabelSet& labels,
              policy::Number number);
  void leave(policy::Number number);
  [[nodiscard]] std::uint32_t depth() const;

  kernel::NftSocket socket_;
  kernel::Conntrack conntrack_;
  kernel::SocketTable sockets_;
  Common& common_;
  const Layout layout_;
  const kernel::CgroupTree& tree_;
  std::shared_ptr<const policy::Policy> policy_;
  policy::Compiler compiler_;
  std::unique_ptr<NameBook> names_;
  std::unordered_map<std::uint64_t, Member> members_;  // by cgroup id
  std::unordered_map<policy::Number, policy::LabelSet> labels_;
  std::map<std::uint32_t, std::size_t> levels_;  // how many members at each level
  std::uint32_t written_depth_ = 0;
  std::vector<policy::Prefix> speakers_;
  std::vector<std::string> unsettled_;  // cgroup paths
  bool all_unsettled_ = false;          // of the namespace's owner
  bool unowned_ = false;                // as in CgroupRef, of the first that was enrolled here
  bool live_ = false;
  bool behind_ = false;
  bool has_answers_hook_ = false;  // in the table that was written last
};

struct Flushed {
  bool table = false;          // there was one
  std::size_t containers = 0;  // tables in network namespaces of containers
  std::size_t workloads = 0;   // records taken off cgroups
};

/// Removes what enforcement leaves in the kernel: the table, those that the daemon of this network
/// namespace has written in others, the authorisation of flows, the records, filters and gates on
/// cgroups, those of the strict slice of `runtime_dir` included. Everything that was refused passes
/// from then on. For when no daemon runs.
[[nodiscard]] Result<Flushed> flush(const kernel::CgroupTree& tree, const std::string& runtime_dir);

}  // namespace trireme::enforcer
