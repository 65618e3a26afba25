// SPDX-License-Identifier: Apache-2.0
#include "unmanaged.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "trireme/policy/explain.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::daemon {
namespace {

/// A UDP socket that is bound to a port below the ephemeral ones waits for requests.
constexpr std::uint16_t kFirstEphemeral = 32768;
constexpr std::size_t kLongestValue = 63;

bool listens(const kernel::InetSocket& socket) {
  return socket.remote_port == 0 && socket.local_port != 0 &&
         (socket.protocol == IPPROTO_TCP || socket.local_port < kFirstEphemeral);
}

bool is_loopback(const policy::Address& address) {
  static const policy::Prefix four = policy::Prefix::parse("127.0.0.0/8").value();
  static const policy::Prefix six = policy::Prefix::parse("::1/128").value();
  return four.contains(address) || six.contains(address);
}

/// The ends of a connection, its own first. The first field is the network namespace for loopback
/// addresses, which exist in every namespace, and 0 for all others.
using Ends = std::tuple<std::uint64_t, std::uint8_t, policy::Address, std::uint16_t,
                        policy::Address, std::uint16_t>;

class Finding {
 public:
  Finding(const std::vector<OwnedSocket>& sockets,
          const std::map<std::uint64_t, std::set<policy::Address>>& addresses)
      : addresses_(addresses) {
    for (const OwnedSocket& each : sockets) {
      const kernel::InetSocket& socket = each.socket;
      if (listens(socket)) {
        listeners_.insert({each.network, socket.protocol, socket.local_port});
        if (each.owner.is_candidate()) {
          candidate(each.owner)
              .listens.insert(policy::port_text(socket.protocol, socket.local_port));
        }
      } else if (socket.remote_port != 0) {
        connections_.emplace(ends_of(each), &each);
      }
    }
  }

  Unmanaged result(const policy::Policy& policy) {
    policy::Policy enforced = policy;
    enforced.mode = policy::Mode::enforce;
    const policy::NameIndex names(enforced);
    for (const auto& [ends, connection] : connections_) {
      if (auto flow = flow_of(ends, *connection)) {
        found_.connections++;
        if (policy::judge(enforced, names, *flow).verdict == policy::Verdict::deny) {
          add_denied(std::move(*flow));
        }
      }
    }
    for (auto& [owner, candidate] : candidates_) {
      found_.candidates.push_back(std::move(candidate));
    }
    for (auto& [key, flow] : denied_) {
      found_.denied.push_back(std::move(flow));
    }
    std::ranges::stable_sort(found_.denied, std::greater{}, &policy::SeenFlow::count);
    return std::move(found_);
  }

 private:
  Candidate& candidate(const SocketOwner& owner) {
    Candidate& known = candidates_[owner];
    known.owner = owner;
    return known;
  }

  static Ends ends_of(const OwnedSocket& each) {
    const kernel::InetSocket& socket = each.socket;
    return {is_loopback(socket.local) ? each.network : 0,
            socket.protocol,
            socket.local,
            socket.local_port,
            socket.remote,
            socket.remote_port};
  }

  [[nodiscard]] bool is_server(const OwnedSocket& end) const {
    return listeners_.contains({end.network, end.socket.protocol, end.socket.local_port});
  }

  /// nullopt: no end is a candidate, both are the same, or the connection is reported from its
  /// other end. Counts what candidates have begun.
  std::optional<policy::SeenFlow> flow_of(const Ends& ends, const OwnedSocket& own) {
    const auto& [place, protocol, local, local_port, remote, remote_port] = ends;
    const auto found = connections_.find({place, protocol, remote, remote_port, local, local_port});
    const OwnedSocket* other = found == connections_.end() ? nullptr : found->second;
    const bool is_second = is_server(own);
    if (!is_second && own.owner.is_candidate()) {
      candidate(own.owner).connects++;
    }
    // The client reports it, or one of the two if it is not clear which is the client.
    const bool reported_there =
        other != nullptr && (is_server(*other) == is_second ? found->first < ends : is_second);
    if (reported_there || (other != nullptr && other->owner == own.owner) ||
        !(own.owner.is_candidate() || (other != nullptr && other->owner.is_candidate()))) {
      return std::nullopt;
    }
    policy::SeenEnd peer;
    if (other != nullptr) {
      peer = end_of(*other);
    } else {
      const auto here = addresses_.find(own.network);
      peer.host =
          is_loopback(remote) || (here != addresses_.end() && here->second.contains(remote));
      peer.address = remote;
    }
    policy::SeenFlow flow;
    flow.from = is_second ? peer : end_of(own);
    flow.to = is_second ? end_of(own) : peer;
    flow.protocol = protocol;
    flow.port = is_second ? local_port : remote_port;
    return flow;
  }

  static policy::SeenEnd end_of(const OwnedSocket& each) {
    policy::SeenEnd end;
    if (each.owner.kind == SocketOwner::Kind::unlabeled) {
      end.host = true;
      end.address = each.socket.local;
    } else {
      end.labels = each.owner.labels;
      end.workload = each.owner.name;
    }
    return end;
  }

  void add_denied(policy::SeenFlow flow) {
    const auto key = std::tuple(flow.from.workload + "\n" + flow.from.text(),
                                flow.to.workload + "\n" + flow.to.text(), flow.protocol, flow.port);
    const auto [known, is_new] = denied_.try_emplace(key, std::move(flow));
    known->second.count += is_new ? 0 : 1;
  }

  const std::map<std::uint64_t, std::set<policy::Address>>& addresses_;
  std::set<std::tuple<std::uint64_t, std::uint8_t, std::uint16_t>> listeners_;
  std::map<Ends, const OwnedSocket*> connections_;
  std::map<SocketOwner, Candidate> candidates_;
  std::map<std::tuple<std::string, std::string, std::uint8_t, std::uint16_t>, policy::SeenFlow>
      denied_;
  Unmanaged found_;
};

/// { app = "shop", tier = "db" }
std::string toml_table(const policy::LabelSet& labels) {
  std::string text;
  for (const auto& [key, value] : labels.items()) {
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", key, policy::toml_string(value));
  }
  return "{ " + text + " }";
}

}  // namespace

std::string label_value(const std::string& name) {
  std::string value = name.substr(0, kLongestValue);
  std::ranges::replace_if(
      value,
      [](char c) {
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        return !is_plain;
      },
      '-');
  return value;
}

std::string lines_for(const SocketOwner& owner) {
  std::string lines;
  switch (owner.kind) {
    case SocketOwner::Kind::unit:
      return fmt::format("[[unit]]\nname = {}\nlabels = {}\n", policy::toml_string(owner.name),
                         toml_table(owner.labels));
    case SocketOwner::Kind::container:
      for (const auto& [key, value] : owner.labels.items()) {
        lines += fmt::format(" --label {}={}", key, value);
      }
      return "docker run" + lines + " ...\n";
    case SocketOwner::Kind::compose:
      for (const auto& [key, value] : owner.labels.items()) {
        lines += fmt::format("      {}: {}\n", key, policy::toml_string(value));
      }
      return fmt::format("services:\n  {}:\n    labels:\n{}", label_value(owner.service), lines);
    case SocketOwner::Kind::unlabeled:
    case SocketOwner::Kind::workload:
      break;
  }
  return lines;
}

Unmanaged find_unmanaged(const std::vector<OwnedSocket>& sockets,
                         const std::map<std::uint64_t, std::set<policy::Address>>& addresses,
                         const policy::Policy& policy) {
  return Finding(sockets, addresses).result(policy);
}

}  // namespace trireme::daemon
