// SPDX-License-Identifier: Apache-2.0
#include "connections.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "trireme/abi/flow_label.hpp"

namespace trireme::daemon {
namespace {

using abi::FlowLabel;
using policy::Number;

constexpr std::size_t kMostKinds = 100'000;

/// Connections with equal keys are counted together: same identities (or addresses, for endpoints
/// without one), same service and same verdict.
struct Kind {
  Number source = 0;
  Number destination = 0;
  policy::Address from;
  policy::Address to;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  bool audited = false;
  bool operator==(const Kind&) const = default;
};

struct KindHash {
  std::size_t operator()(const Kind& kind) const {
    const auto bytes = [](const policy::Address& address) {
      return std::string_view(reinterpret_cast<const char*>(address.bytes.data()),
                              address.bytes.size());
    };
    std::size_t hash = (std::size_t{kind.source} << 32U) ^ kind.destination;
    for (const std::size_t part :
         {std::hash<std::string_view>()(bytes(kind.from)),
          std::hash<std::string_view>()(bytes(kind.to)),
          (std::size_t{kind.protocol} << 17U) ^ (std::size_t{kind.port} << 1U) ^
              std::size_t{kind.audited}}) {
      hash = (hash * 1'099'511'628'211U) ^ part;
    }
    return hash;
  }
};

bool is_workload(Number number) {
  return number >= abi::kFirstNumber;
}

class Reading {
 public:
  explicit Reading(Daemon& daemon) : daemon_(daemon) {}

  Status read(points::Point& point) {
    return point.enforcer().each_flow(
        [this, &point](const kernel::TrackedFlow& flow) { take(flow, point.enforcer()); });
  }

  Connections result() {
    Connections found;
    found.flows = flows_;
    found.complete = complete_;
    for (const auto& [kind, seen] : kinds_) {
      found.tallies.push_back(tally(kind, seen));
    }
    add_audited(found);
    std::ranges::sort(found.tallies, std::greater{}, &control::FlowTally::count);
    return found;
  }

 private:
  struct Seen {
    std::uint64_t count = 0;
    const enforcer::Enforcer* enforcer = nullptr;  // knows the DNS names of addresses
  };

  /// True if conntrack has the connection in the wrong direction: if it forgets a connection and
  /// then sees a reply first, it takes the server for the client. The ports are the only hint,
  /// since clients usually have the higher one.
  static bool is_turned(const kernel::TrackedFlow& flow, const abi::FlowLabel& label) {
    return (label.flags() & abi::kResumed) != 0 &&
           flow.original.source_port < flow.reply.source_port;
  }

  void take(kernel::TrackedFlow flow, const enforcer::Enforcer& enforcer) {
    if (flow.ended) {
      return;
    }
    const abi::FlowLabel label{flow.label};
    const bool turned = is_turned(flow, label);
    const auto source = turned ? label.destination() : label.source();
    const auto destination = turned ? label.source() : label.destination();
    if (turned) {
      std::swap(flow.original, flow.reply);
    }
    const bool passes = (label.flags() & (abi::kAuthorized | abi::kAudited)) != 0;
    if ((label.flags() & abi::kAudited) != 0 && label.source() == abi::kNoNumber &&
        label.destination() == abi::kNoNumber) {
      audited_[{flow.protocol, flow.reply.source_port, flow.original.source, flow.reply.source}]++;
      flows_++;
      return;
    }
    if (!passes || !source || !destination || *source == *destination ||
        (!is_workload(*source) && !is_workload(*destination))) {
      return;
    }
    // A connection between two enforcement points is in the tables of both: count it once.
    const bool is_new = (label.flags() & abi::kToken) == 0 ||
                        between_points_
                            .emplace(flow.original.source, flow.reply.source,
                                     flow.original.source_port, flow.reply.source_port)
                            .second;
    if (!is_new) {
      return;
    }
    flows_++;
    const Kind kind{.source = *source,
                    .destination = *destination,
                    .from = is_workload(*source) ? policy::Address() : flow.original.source,
                    .to = is_workload(*destination) ? policy::Address() : flow.reply.source,
                    .protocol = flow.protocol,
                    .port = flow.reply.source_port,
                    .audited = (label.flags() & abi::kAudited) != 0};
    if (const auto found = kinds_.find(kind); found != kinds_.end()) {
      found->second.count++;
    } else if (kinds_.size() < kMostKinds) {
      kinds_.emplace(kind, Seen{.count = 1, .enforcer = &enforcer});
    } else {
      complete_ = false;
    }
  }

  /// Adds audited connections. With mode = "audit" their conntrack label has no identities, so find
  /// their endpoints in the flow log, by addresses and port.
  void add_audited(Connections& found) const {
    std::map<AuditedKey, const policy::Flow*> logged;
    const auto filter = control::FlowFilter::parse({{"verdict", {"audit"}}}, {});
    for (const control::FlowTally* tally : daemon_.flows().store().tallies(*filter, kMostKinds)) {
      const policy::Flow& flow = tally->last;
      if (flow.source.address && flow.destination.address) {
        logged.try_emplace(
            {flow.protocol, flow.port, *flow.source.address, *flow.destination.address}, &flow);
      }
    }
    for (const auto& [key, count] : audited_) {
      if (const auto flow = logged.find(key); flow != logged.end()) {
        found.tallies.push_back({.last = *flow->second, .first = now_, .count = count});
        found.tallies.back().last.time = now_;
      } else {
        found.unknown += count;
      }
    }
  }

  [[nodiscard]] policy::FlowEnd end(Number number, const policy::Address& address,
                                    const enforcer::Enforcer& enforcer) const {
    if (!is_workload(number)) {
      return enforcer::end_without_labels(number, address, enforcer);
    }
    policy::FlowEnd end;
    if (const workload::Workload* workload = daemon_.registry().find_number(number)) {
      end.labels = workload->labels;
      end.workload = workload->name;
    } else if (const auto remote = daemon_.tokens().identities().find(number)) {
      end.labels = remote->labels;
      end.host = remote->peer->name;
    } else {
      end.labels.emplace();
    }
    return end;
  }

  [[nodiscard]] control::FlowTally tally(const Kind& kind, const Seen& seen) const {
    control::FlowTally made;
    made.count = seen.count;
    made.first = now_;
    made.last.time = now_;
    made.last.verdict = kind.audited ? policy::Verdict::audit : policy::Verdict::allow;
    made.last.source = end(kind.source, kind.from, *seen.enforcer);
    made.last.destination = end(kind.destination, kind.to, *seen.enforcer);
    made.last.protocol = kind.protocol;
    made.last.port = kind.port;
    return made;
  }

  using AuditedKey = std::tuple<std::uint8_t, std::uint16_t, policy::Address, policy::Address>;

  Daemon& daemon_;
  std::map<AuditedKey, std::uint64_t> audited_;
  std::chrono::system_clock::time_point now_ = std::chrono::system_clock::now();
  std::unordered_map<Kind, Seen, KindHash> kinds_;
  std::set<std::tuple<policy::Address, policy::Address, std::uint16_t, std::uint16_t>>
      between_points_;
  std::uint64_t flows_ = 0;
  bool complete_ = true;
};

}  // namespace

Result<Connections> connections(Daemon& daemon) {
  Reading reading(daemon);
  for (points::Point* point : daemon.enforcement().all()) {
    if (Status read = reading.read(*point); !read) {
      return tl::unexpected(read.error());
    }
  }
  return reading.result();
}

}  // namespace trireme::daemon
