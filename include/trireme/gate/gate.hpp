// SPDX-License-Identifier: Apache-2.0
// The gate: BPF programs at the top of the cgroup tree. They stamp packets that local sockets send
// over lo with the sender's number, and decide on them at the receiving socket. docs/datapath.md,
// "The gate".
//
// The programs and their maps stay attached when this process ends, and go on enforcing the policy
// and numbers that were written last.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trireme/abi/abi.hpp"
#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::gate {

/// Size in bytes to which Gate::canary() cuts a datagram that lost its stamp.
inline constexpr std::size_t kCanaryWithoutStamp = TRIREME_CANARY_WITHOUT_STAMP;

/// Number of packets that were refused, by reason, and of those that only audit mode let pass.
struct Refusals {
  std::uint64_t quarantine_in = 0;
  std::uint64_t quarantine_out = 0;
  std::uint64_t ended = 0;      // to or from a socket of a workload that has ended
  std::uint64_t unstamped = 0;  // to a workload, from a socket outside this cgroup tree
  std::uint64_t policy = 0;
  std::uint64_t protocol = 0;    // not TCP, UDP or ICMP; or multicast on a device other than lo
  std::uint64_t unreadable = 0;  // truncated headers
  std::uint64_t group = 0;       // to a SO_REUSEPORT group of several workloads, not on lo
  std::uint64_t audited = 0;     // would have been refused, but passed in audit mode

  /// The counts of refused packets, with the reason words of status and metrics.
  [[nodiscard]] std::array<std::pair<const char*, std::uint64_t>, 8> by_reason() const {
    return {{{"quarantined_destination", quarantine_in},
             {"quarantined_source", quarantine_out},
             {"ended", ended},
             {"unstamped", unstamped},
             {"policy", policy},
             {"protocol", protocol},
             {"unreadable", unreadable},
             {"group", group}}};
  }
};

/// A refused packet: the first one in five seconds with these endpoints, port and reason.
struct Refused {
  enum class Reason : std::uint8_t {
    quarantine_in,
    quarantine_out,
    ended,
    unstamped,
    policy,
    protocol,
    unreadable,
    group
  };  // as in Refusals
  Reason reason = Reason::policy;
  policy::Number from = 0;  // of a workload, abi::kQuarantine, abi::kEnded, 1: @host, 0: unknown
  policy::Number to = 0;
  policy::Address source;
  policy::Address destination;
  /// Id of the workload's cgroup whose socket refused the packet; 0: the socket is no workload's.
  std::uint64_t cgroup = 0;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination, host byte order; 0 if the protocol has none
  bool audited = false;    // audit mode let it pass
  bool local = false;      // on lo
};

/// Whether the tracing program trireme_born quarantines new containers before their first
/// instruction.
struct Births {
  enum class State : std::uint8_t {
    off,            // not configured
    always,         // also while no daemon runs
    while_running,  // only while this daemon runs
    absent,         // the kernel cannot
  };
  State state = State::off;
  std::string doubt;  // the reason for while_running or absent
};

/// Container engines whose new containers are quarantined.
struct Engines {
  bool docker = false;
  bool podman = false;
};

class Gate {
 public:
  /// Loads the programs for the cgroup tree below `top` (absolute path). If an earlier daemon has
  /// attached programs there, this takes over their maps; the old programs stay in force until
  /// attach(). `room`: how many cgroups can have a number at once, including ended cgroups that
  /// still have sockets. Errors: another daemon controls this tree; a kernel before Linux 5.10 or
  /// without CONFIG_CGROUP_BPF; CAP_BPF or CAP_NET_ADMIN is missing.
  [[nodiscard]] static Result<std::unique_ptr<Gate>> open(const std::string& top,
                                                          std::uint32_t room = kRoom);
  static constexpr std::uint32_t kRoom = 1U << 17U;
  ~Gate();

  /// Attaches the programs; replaces those of an earlier daemon. The numbers and the policy written
  /// so far are in force from now on.
  [[nodiscard]] Status attach();
  /// True if the programs of an earlier daemon are in force until attach().
  [[nodiscard]] bool takes_over() const;
  /// True if all programs are still attached where attach() attached them.
  [[nodiscard]] Result<bool> is_attached() const;
  /// Detaches the programs of any daemon from `top`, after which all packets pass. It is no error
  /// if there are none.
  [[nodiscard]] static Status detach(const std::string& top);

  // --- the numbers of cgroups: they tell which workload a socket belongs to ---

  /// Gives the cgroup a number: a workload's, or abi::kQuarantine. It applies to sockets of the
  /// cgroup and of descendants without a number of their own. Errors: the kernel's; only the
  /// reserve is left.
  [[nodiscard]] Status set(std::uint64_t cgroup_id, policy::Number number);
  /// Removes the number: the cgroup is no longer a workload's. Its sockets get the number of the
  /// nearest ancestor, or @host.
  [[nodiscard]] Status release(std::uint64_t cgroup_id);
  /// To be called when the cgroup was removed. Its sockets, which other processes may still have,
  /// are quarantined until the kernel reports that the last one is gone. Connections that were
  /// closed before, and not used since, still deliver what was written, unless the cgroup was
  /// quarantined.
  [[nodiscard]] Status end(std::uint64_t cgroup_id);
  /// Gives the remaining sockets of a removed cgroup the number of another workload. Does nothing
  /// if no socket remains.
  [[nodiscard]] Status adopt(std::uint64_t cgroup_id, policy::Number number);
  /// The number of this cgroup in the kernel; nullopt if it has none.
  [[nodiscard]] std::optional<policy::Number> number(std::uint64_t cgroup_id) const;
  /// True if the number occupies room until the last socket of the cgroup is gone. Always false
  /// without kernel BTF, because the kernel then does not report that.
  [[nodiscard]] bool is_held(std::uint64_t cgroup_id) const;
  /// True if more than half of the room was in use at the last look_through().
  [[nodiscard]] bool is_scarce() const { return used_ > room_ / 2; }
  /// The numbers of all cgroups: abi::kQuarantine, abi::kBorn, abi::kEnded or a workload's.
  using Numbers = std::unordered_map<std::uint64_t, policy::Number>;  // by cgroup id
  [[nodiscard]] Result<Numbers> numbers() const;
  /// Selects the engines whose new container cgroups (docker-ID.scope and libpod-ID.scope below
  /// slices, /docker/ID and /libpod_parent/ID) trireme_born quarantines before a process can be in
  /// them, until set() or release(). Works from attach() on; births() tells whether also while no
  /// daemon runs. If no engine is selected, cgroups that were quarantined this way (abi::kBorn) are
  /// released.
  [[nodiscard]] Status quarantine_births(Engines wanted);
  [[nodiscard]] Births births() const;
  /// Examines all numbers, and retries settings that could not be written. To be called
  /// periodically: while no cgroup is quarantined, packets on devices other than lo take a faster
  /// path. Errors: the kernel's; more than 7/8 of the room is in use; a new container got no number
  /// for lack of room.
  [[nodiscard]] Status look_through();
  /// True if the last look_through() found no cgroup in quarantine and none was added since.
  [[nodiscard]] bool is_calm() const { return calm_.has_value(); }

  // --- policy ---

  /// Writes a new policy next to the one in force. Until finish() or cancel(), a packet passes if
  /// either policy allows it. `audit`: from finish() on, packets that would be refused are counted
  /// and pass.
  [[nodiscard]] Status prepare(const policy::Tables& tables, const policy::Elements& elements,
                               bool audit);
  /// Puts the prepared policy in force, alone.
  [[nodiscard]] Status finish();
  /// Discards the prepared policy; the earlier one is in force, alone.
  [[nodiscard]] Status cancel();
  /// Changes the policy in force: workloads, and addresses of DNS names, that are added or removed.
  [[nodiscard]] Status change(const policy::Delta& delta);

  /// Counts since the programs were first attached, by any daemon.
  [[nodiscard]] Result<Refusals> refusals() const;
  /// A descriptor that is readable when take_refused() has packets.
  [[nodiscard]] int refused_fd() const;
  /// Refused packets since the last call. Each sender has a share of 32 in five seconds; further
  /// ones are only counted in refusals().
  [[nodiscard]] std::vector<Refused> take_refused();
  /// A filter for a UDP socket (SO_ATTACH_BPF) that cuts datagrams without a stamp to
  /// kCanaryWithoutStamp bytes. This object owns the descriptor.
  [[nodiscard]] int canary() const;

  /// Part of the room (at most an eighth of it) that only set(abi::kQuarantine) and new containers
  /// can use.
  static constexpr std::uint32_t kReserve = 1024;

 private:
  struct Programs;
  /// The maps of one policy.
  struct Slot {
    Fd members, same, pairs, outcomes, ports, addresses, named;
    std::set<std::uint32_t> host_classes;  // of @host, at any address
    bool plain_host = false;               // @host has the same class at every address
    bool host_asks = false;                // a rule lets @host connect to a workload
  };
  explicit Gate(std::unique_ptr<Programs> programs, Fd top);
  [[nodiscard]] Result<Slot> make_slot(const policy::Tables& tables,
                                       const policy::Elements& elements) const;
  [[nodiscard]] static Status write(Slot& slot, const policy::Delta& delta);
  [[nodiscard]] Status install(std::uint32_t index, const Slot& slot) const;
  [[nodiscard]] Status apply_settings();
  struct Counts {
    std::uint32_t quarantined = 0;
    std::uint32_t missed = 0;
  };
  [[nodiscard]] Result<Counts> counts() const;
  [[nodiscard]] Status has_room(std::size_t used, const Counts& counts) const;
  [[nodiscard]] Result<std::size_t> release_undecided(const Numbers& numbers) const;

  std::unique_ptr<Programs> programs_;
  Fd top_;  // locked with flock(2): one daemon per tree
  std::array<Slot, 2> slots_;
  std::uint32_t current_ = 0;
  std::uint32_t generation_ = 1;
  bool both_ = false;
  bool audit_ = false, next_audit_ = false;
  std::uint32_t room_ = kRoom;
  std::size_t used_ = 0;  // numbers in use, at most: some may have been freed since look_through()
  std::uint32_t missed_ = 0;  // new containers that got no number before this daemon started
  bool unwritten_ = false;    // apply_settings() failed: the kernel has older settings
  bool births_ = false;
  std::optional<std::uint32_t> calm_;  // trireme_settings.calm minus 1; nullopt: not calm
};

}  // namespace trireme::gate
