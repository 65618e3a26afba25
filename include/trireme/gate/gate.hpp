// SPDX-License-Identifier: Apache-2.0
// The gate: BPF programs at the top of the cgroup tree that stamp what local sockets send over lo
// with their sender's number, and judge it at the socket that is about to get it.
// docs/datapath.md, "The gate".
//
// The programs and their maps stay when this process ends, and go on deciding by what they know.
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

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::gate {

/// The high byte of skb->priority of what the gate has stamped; the sender's number is below it.
inline constexpr std::uint32_t kStamp = 0xE7000000;
inline constexpr std::uint32_t kStampedNumber = 0x00FFFFFF;

/// Bytes that Gate::canary() leaves of a datagram that has lost its stamp.
inline constexpr std::size_t kCanaryWithoutStamp = 4;

/// Packets that were refused (or, in audit mode, would have been), by reason.
struct Refusals {
  std::uint64_t quarantine_in = 0;
  std::uint64_t quarantine_out = 0;
  std::uint64_t unstamped = 0;  // to a workload, from nobody whose socket is in this cgroup tree
  std::uint64_t policy = 0;
  std::uint64_t protocol = 0;    // neither TCP, UDP nor ICMP; multicast from elsewhere
  std::uint64_t unreadable = 0;  // headers that end too early
  std::uint64_t group = 0;       // of a SO_REUSEPORT group that several share, from elsewhere
  std::uint64_t audited = 0;

  /// What was refused, with the words for why that status and metrics use.
  [[nodiscard]] std::array<std::pair<const char*, std::uint64_t>, 7> by_reason() const {
    return {{{"quarantined_destination", quarantine_in},
             {"quarantined_source", quarantine_out},
             {"unstamped", unstamped},
             {"policy", policy},
             {"protocol", protocol},
             {"unreadable", unreadable},
             {"group", group}}};
  }
};

/// A packet that was refused: the first in five seconds with these ends, port and reason.
struct Refused {
  enum class Reason : std::uint8_t {
    quarantine_in,
    quarantine_out,
    unstamped,
    policy,
    protocol,
    unreadable,
    group
  };  // as the counts of Refusals
  Reason reason = Reason::policy;
  policy::Number from = 0;  // kQuarantine, a workload's, 1: @host, 0: not known
  policy::Number to = 0;
  policy::Address source;
  policy::Address destination;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination; 0 where the protocol has none
  bool audited = false;    // it passed
  bool local = false;      // on lo
};

/// Whether the kernel quarantines new containers itself, before their first instruction.
struct Births {
  enum class State : std::uint8_t {
    off,            // not asked for
    always,         // whether a daemon runs or not
    while_running,  // as long as this daemon runs
    absent,         // not at all
  };
  State state = State::off;
  std::string doubt;  // why it is one of the last two
};

/// Programs that make containers.
struct Engines {
  bool docker = false;
  bool podman = false;
};

class Gate {
 public:
  /// Loads the programs for the cgroup tree below `top` (absolute path). Maps of programs that an
  /// earlier daemon has attached there are taken over: they decide until attach(). Errors: another
  /// daemon is in charge of this tree; a kernel before 5.10 or without CONFIG_CGROUP_BPF; CAP_BPF
  /// or CAP_NET_ADMIN is missing. `room`: how many cgroups can have a number at once, those that
  /// have ended and still have sockets among them.
  [[nodiscard]] static Result<std::unique_ptr<Gate>> open(const std::string& top,
                                                          std::uint32_t room = kRoom);
  static constexpr std::uint32_t kRoom = 1U << 17U;
  ~Gate();

  /// Puts the programs in force, in the place of an earlier daemon's: what was given to set() and
  /// replace() holds from then on.
  [[nodiscard]] Status attach();
  /// Whether an earlier daemon's programs decide until then.
  [[nodiscard]] bool takes_over() const;
  /// Whether both programs are where attach() has put them.
  [[nodiscard]] Result<bool> is_attached() const;
  /// Takes the programs of whatever daemon off `top`: everything passes. None there is fine.
  [[nodiscard]] static Status detach(const std::string& top);

  // --- whose socket it is ---

  /// Sockets of this cgroup, and of those below it that have no number, have `number`:
  /// kQuarantine or a workload's. Error besides the kernel's: no room but the reserve is left.
  [[nodiscard]] Status set(std::uint64_t cgroup_id, policy::Number number);
  /// The cgroup is that of no workload any more: its sockets are its nearest ancestor's, or
  /// @host's.
  [[nodiscard]] Status release(std::uint64_t cgroup_id);
  /// The cgroup is gone. Sockets that were made in it, and may live on in other processes, are in
  /// quarantine until the kernel says that the last of them has gone. Connections that were closed
  /// before, and not used since, deliver what was written, unless the cgroup was in quarantine.
  [[nodiscard]] Status end(std::uint64_t cgroup_id);
  /// The cgroup is gone, and its sockets that live on are another's now. Where its last socket has
  /// gone nothing happens.
  [[nodiscard]] Status adopt(std::uint64_t cgroup_id, policy::Number number);
  /// What the kernel has for this cgroup.
  [[nodiscard]] std::optional<policy::Number> number(std::uint64_t cgroup_id) const;
  /// Whether the cgroup's number takes room until its last socket goes. Never without kernel BTF:
  /// nobody says then when that is.
  [[nodiscard]] bool is_held(std::uint64_t cgroup_id) const;
  /// Whether more than half of the room is in use, by what look_through() has found last.
  [[nodiscard]] bool is_scarce() const { return used_ > room_ / 2; }
  /// What every cgroup has: kQuarantine, kBorn, kEnded or a workload's.
  using Numbers = std::unordered_map<std::uint64_t, policy::Number>;  // by cgroup id
  [[nodiscard]] Result<Numbers> numbers() const;
  /// Whose new cgroups of containers (docker-ID.scope and libpod-ID.scope below slices, /docker/ID
  /// and /libpod_parent/ID) the kernel puts in quarantine before anybody can use them, with no
  /// daemon running too where births() says so: until set() or release(). From attach() on. Where
  /// nobody's, those that nobody has decided about are released.
  [[nodiscard]] Status quarantine_births(Engines wanted);
  [[nodiscard]] Births births() const;
  /// Looks through all numbers, and writes again what could not be written. To be called now and
  /// then: while no cgroup is in quarantine, packets of other devices than lo pass quicker. Errors
  /// besides the kernel's: there is hardly any room for numbers, or there was none for a birth.
  [[nodiscard]] Status look_through();
  /// What look_through() has found: no cgroup is in quarantine.
  [[nodiscard]] bool is_calm() const { return calm_.has_value(); }

  // --- policy ---

  /// Prepares another policy beside the one in force; from then until finish() or cancel() what
  /// either allows passes. `audit`: what is refused is counted, and passes (with finish()).
  [[nodiscard]] Status prepare(const policy::Tables& tables, const policy::Elements& elements,
                               bool audit);
  /// The prepared policy alone is in force.
  [[nodiscard]] Status finish();
  /// The earlier policy alone is in force.
  [[nodiscard]] Status cancel();
  /// A change of the policy in force: workloads and addresses of names that come or go.
  [[nodiscard]] Status change(const policy::Delta& delta);

  [[nodiscard]] Result<Refusals> refusals() const;
  /// Readable when packets were refused.
  [[nodiscard]] int refused_fd() const;
  /// Those since the last call. Each sender has a share of 32 in five seconds; what does not fit is
  /// in refusals() alone.
  [[nodiscard]] std::vector<Refused> take_refused();
  /// A filter for a UDP socket (SO_ATTACH_BPF), which cuts datagrams off that have lost their stamp
  /// on the way. The descriptor is this object's.
  [[nodiscard]] int canary() const;

  /// Sockets in quarantine, and those of cgroups that are gone.
  static constexpr policy::Number kQuarantine = 2;
  /// Quarantined by the kernel at its birth.
  static constexpr policy::Number kBorn = 3;
  /// The workload's cgroup has gone.
  static constexpr policy::Number kEnded = 4;
  /// Of the room, but at most an eighth of it: only set(kQuarantine) and births can have that.
  static constexpr std::uint32_t kReserve = 1024;

 private:
  struct Programs;
  /// The maps of one policy.
  struct Slot {
    Fd members, same, pairs, outcomes, ports, addresses, named;
    std::set<std::uint32_t> host_classes;  // of @host, at whatever address
    bool plain_host = false;               // one class at every address
    bool host_asks = false;                // a rule lets @host reach somebody
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
  Fd top_;  // locked: one daemon for each tree
  std::array<Slot, 2> slots_;
  std::uint32_t current_ = 0;
  std::uint32_t generation_ = 1;
  bool both_ = false;
  bool audit_ = false, next_audit_ = false;
  std::uint32_t room_ = kRoom;
  std::size_t used_ = 0;      // of it, at most: since look_through() some may have become free
  std::uint32_t missed_ = 0;  // births before this daemon's time that had no room
  bool unwritten_ = false;    // the kernel has older settings
  bool births_ = false;
  std::optional<std::uint32_t> calm_;  // trireme_settings.calm, without the 1; nullopt: not calm
};

}  // namespace trireme::gate
