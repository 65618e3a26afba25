// SPDX-License-Identifier: Apache-2.0
#include "unmanaged.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "trireme/base/counted.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kLongestValue = 63;

/// A UDP socket that is bound to a port which the kernel does not choose waits for requests.
bool listens(const OwnedSocket& owned) {
  const kernel::InetSocket& socket = owned.socket;
  return socket.remote_port == 0 && socket.local_port != 0 &&
         (socket.protocol == IPPROTO_TCP || !owned.ephemeral.contains(socket.local_port));
}

class Finding {
 public:
  Finding(const std::vector<OwnedSocket>& sockets, const AddressesByNetwork& addresses,
          bool has_handshakes)
      : sockets_(sockets), addresses_(addresses), has_handshakes_(has_handshakes) {
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      const auto& [socket, network, owner, ephemeral] = sockets[i];
      const bool is_listener = listens(sockets[i]);
      if (is_listener && owner.is_candidate()) {
        candidate(owner).listens.insert(policy::port_text(socket.protocol, socket.local_port));
      }
      if (is_listener || socket.remote_port != 0) {
        live_[socket.protocol].push_back(live_socket(socket, network, i));
      }
    }
  }

  Unmanaged result(const policy::Policy& policy) {
    policy::Policy enforced = policy;
    enforced.mode = policy::Mode::enforce;
    const policy::NameIndex names(enforced);
    for (const auto& [protocol, live] : live_) {
      for (const policy::LiveConnection& connection : policy::live_connections(live, {})) {
        auto flow = flow_of(connection, protocol);
        if (!flow) {
          continue;
        }
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
  Unmanaged::Candidate& candidate(const SocketOwner& owner) {
    Unmanaged::Candidate& known = candidates_[owner];
    known.owner = owner;
    return known;
  }

  /// Null: the end is no socket of this host.
  [[nodiscard]] const SocketOwner* owner_of(const policy::LiveSocket* socket) const {
    return socket == nullptr ? nullptr : &sockets_[socket->owner].owner;
  }

  /// nullopt: no end is a candidate, both are the same, or policy does not apply. Counts what
  /// candidates have begun.
  std::optional<policy::SeenFlow> flow_of(const policy::LiveConnection& live,
                                          std::uint8_t protocol) {
    const SocketOwner* client = owner_of(live.client);
    const SocketOwner* server = owner_of(live.server);
    const bool is_from_candidate = client != nullptr && client->is_candidate();
    const bool is_to_candidate = server != nullptr && server->is_candidate();
    if (is_from_candidate) {
      candidate(*client).connects++;
    }
    if (is_to_candidate) {
      candidate(*server);
    }
    const bool is_own = client != nullptr && server != nullptr && *client == *server;
    if (is_own || !(is_from_candidate || is_to_candidate) || is_to_resolver(live)) {
      return std::nullopt;
    }
    policy::SeenFlow flow;
    flow.from = end_of(client, live.from_client.source,
                       is_beside(live, live.from_client.source, addresses_));
    flow.to = end_of(server, live.from_client.destination,
                     is_beside(live, live.from_client.destination, addresses_));
    flow.protocol = protocol;
    flow.port = live.from_client.destination_port;
    flow.is_unproved = !has_handshakes_ && client != nullptr && server != nullptr &&
                       live.client->network != live.server->network;
    return flow;
  }

  /// `is_host`: if it has no labels, it is @host to the other end.
  static policy::SeenEnd end_of(const SocketOwner* owner, const policy::Address& address,
                                bool is_host) {
    policy::SeenEnd end;
    end.address = address;
    if (owner == nullptr || owner->kind == SocketOwner::Kind::unlabeled) {
      end.host = is_host;
    } else {
      end.labels = owner->labels;
      end.workload = owner->name;
    }
    return end;
  }

  void add_denied(policy::SeenFlow flow) {
    const auto key =
        std::tuple(kind_of(flow, flow.from), kind_of(flow, flow.to), flow.protocol, flow.port);
    const auto [known, is_new] = denied_.try_emplace(key, std::move(flow));
    known->second.count += is_new ? 0 : 1;
  }

  const std::vector<OwnedSocket>& sockets_;
  const AddressesByNetwork& addresses_;
  const bool has_handshakes_;
  std::map<std::uint8_t, std::vector<policy::LiveSocket>> live_;  // by protocol
  std::map<SocketOwner, Unmanaged::Candidate> candidates_;
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

std::vector<std::string> notes_on(const Unseen& unseen) {
  const auto late = fmt::format("reading took more than {} s", ReadingTime::kMost.count());
  std::vector<std::string> notes;
  if (unseen.unread > 0) {
    notes.push_back(fmt::format("the sockets of {} were not listed: {}",
                                counted(unseen.unread, "network namespace"), late));
  }
  if (unseen.unsearched > 0) {
    notes.push_back(fmt::format("the network namespaces of {} were not looked for: {}",
                                counted(unseen.unsearched, "cgroup"), late));
  }
  if (unseen.cut > 0) {
    notes.push_back(
        fmt::format("the network namespaces of {} may be missing: not all of {} "
                    "threads were looked at",
                    counted(unseen.cut, "cgroup"), unseen.cut == 1 ? "its" : "their"));
  }
  if (unseen.unopened > 0) {
    notes.push_back(fmt::format(
        "the sockets of {} were not listed: {} processes have ended, or "
        "cannot be looked at",
        counted(unseen.unopened, "network namespace"), unseen.unopened == 1 ? "its" : "their"));
  }
  return notes;
}

Unmanaged find_unmanaged(const std::vector<OwnedSocket>& sockets,
                         const AddressesByNetwork& addresses, const policy::Policy& policy,
                         bool has_handshakes) {
  return Finding(sockets, addresses, has_handshakes).result(policy);
}

}  // namespace trireme::daemon
