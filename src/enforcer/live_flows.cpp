// Flows that are alive while policy or membership changes.
#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;

namespace {

/// The end of a flow as the sets know it.
policy::SetPeer peer(policy::Number number, const policy::Address& address) {
  if (number == kNoNumber || number == kHost) {
    return {.number = 0, .address = address, .local = number == kHost};
  }
  return {.number = number, .address = {}};
}

/// Two ends of a connection as a socket sees them: its own, then the other.
struct Ends {
  std::uint8_t protocol = 0;
  policy::Address local;
  std::uint16_t local_port = 0;
  policy::Address remote;
  std::uint16_t remote_port = 0;
  auto operator<=>(const Ends&) const = default;
};

}  // namespace

bool Enforcer::allows(const TrackedFlow& flow) const {
  const FlowLabel label{flow.label};
  const auto source = label.source();
  const auto destination = label.destination();
  if (!source || !destination) {
    return false;
  }
  const auto known = [this](policy::Number number) { return number == kNoNumber || number == kHost || labels_.contains(number); };
  if (!known(*source) || !known(*destination) || (*source <= kHost && *destination <= kHost)) {
    return false;
  }
  if (policy_->mode == policy::Mode::audit) {
    return true;  // what is refused passes and was logged; it need not be logged again
  }
  return policy::judge(compiler_.tables(), compiler_.elements(), peer(*source, flow.original.source), peer(*destination, flow.reply.source),
                       flow.protocol, flow.reply.source_port)
      .has_value();
}

Result<std::size_t> Enforcer::revoke() {
  std::vector<TrackedFlow> refused;
  const Status listed = conntrack_.each([&](const TrackedFlow& flow) {
    if ((flow.label[0] & kAuthorised) != 0 && !allows(flow)) {
      refused.push_back(flow);
    }
  });
  if (!listed) {
    return tl::unexpected(listed.error());
  }
  Status first_error;  // which keeps no other flow from its end
  for (const TrackedFlow& flow : refused) {
    const Status cleared = conntrack_.clear_label_bits(flow, kAuthorised | kExempt | kAudited | kLogged);
    first_error = first_error ? cleared : first_error;
  }
  if (!first_error) {
    return tl::unexpected(first_error.error());
  }
  return refused.size();
}

Result<std::size_t> Enforcer::settle() {
  if (unsettled_.empty()) {
    return std::size_t{0};
  }
  std::vector<std::string> paths;
  paths.swap(unsettled_);
  std::set<Ends> connections;
  std::set<std::pair<policy::Address, std::uint16_t>> datagrams;  // local ends of UDP sockets
  while (!paths.empty()) {
    const std::string path = std::move(paths.back());
    paths.pop_back();
    for (const std::string& child : tree_.children(path)) {
      paths.push_back(path + "/" + child);
    }
    const auto id = tree_.id(path);
    if (!id) {
      continue;  // gone again
    }
    const auto found = sockets_.of_cgroup(*id);
    if (!found) {
      return tl::unexpected(found.error());
    }
    for (const kernel::InetSocket& socket : *found) {
      if (socket.protocol == IPPROTO_UDP) {
        datagrams.emplace(socket.local, socket.local_port);
      } else if (socket.remote_port != 0) {
        connections.insert({socket.protocol, socket.local, socket.local_port, socket.remote, socket.remote_port});
      }
    }
  }
  if (connections.empty() && datagrams.empty()) {
    return std::size_t{0};
  }
  const auto is_datagram_of = [&](const policy::Address& address, std::uint16_t port) {
    policy::Address any;
    const auto has = [&](const policy::Address& local) { return datagrams.contains({local, port}); };
    if (has(address) || has(any)) {
      return true;
    }
    any.family = policy::Address::Family::v6;
    return has(any);
  };
  std::vector<TrackedFlow> flows;
  const Status listed = conntrack_.each([&](const TrackedFlow& flow) {
    const auto touches = [&](const kernel::FlowTuple& tuple) {
      return flow.protocol == IPPROTO_UDP
                 ? is_datagram_of(tuple.source, tuple.source_port)
                 : connections.contains({flow.protocol, tuple.source, tuple.source_port, tuple.destination, tuple.destination_port});
    };
    // A client sees the original direction, a server the reply's.
    if (touches(flow.original) || touches(flow.reply)) {
      flows.push_back(flow);
    }
  });
  if (!listed) {
    return tl::unexpected(listed.error());
  }
  for (const TrackedFlow& flow : flows) {
    // A UDP entry older than the table could never be marked; a new one can. TCP's next segment is judged by the sockets at both ends.
    const Status done = flow.protocol == IPPROTO_UDP ? conntrack_.remove(flow)
                                                     : conntrack_.clear_label_bits(flow, kAuthorised | kExempt | kAudited | kLogged);
    if (!done) {
      return tl::unexpected(done.error());
    }
  }
  return flows.size();
}

std::vector<std::vector<std::uint8_t>> Enforcer::refused_keys() {
  return socket_.keys(kTable, sets().refused.name).value_or(std::vector<std::vector<std::uint8_t>>{});
}

std::optional<TrackedFlow> Enforcer::find_flow(std::uint8_t protocol, const kernel::FlowTuple& tuple) {
  TrackedFlow flow;
  const kernel::FlowTuple reverse{tuple.destination, tuple.source, tuple.destination_port, tuple.source_port};
  for (const kernel::FlowTuple& candidate : {tuple, reverse}) {
    if (conntrack_.find(protocol, candidate, flow).value_or(false)) {
      return flow;
    }
  }
  return std::nullopt;
}

}  // namespace trireme::enforcer
