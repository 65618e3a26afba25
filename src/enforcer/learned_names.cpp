// SPDX-License-Identifier: Apache-2.0
// Learns from the answers of name servers which addresses are in networks by DNS name.
#include "learned_names.hpp"
#include "version.hpp"

#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "enforcer_change.hpp"
#include "trireme/abi/flow_label.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/world.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;
using policy::Address;
using policy::Endpoint;
using policy::Number;
using std::chrono::milliseconds;

namespace {

/// Maximum length of an element's comment in bytes. A name that does not fit has to be looked up
/// again after a restart.
constexpr std::size_t kCommentText = 240;

/// As many names as fit. A restarted daemon reads the names back from the comments.
std::string comment_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    if (text.size() + 1 + name.size() <= kCommentText) {
      text += (text.empty() ? "" : " ") + name;
    }
  }
  return text;
}

/// True for Docker's resolver in a container. It can be trusted because queries reach it by DNAT,
/// which only a process with CAP_NET_ADMIN in that namespace can set up.
bool is_embedded_resolver(const TrackedFlow& flow) {
  return policy::is_resolver(flow.original.destination) && policy::is_resolver(flow.reply.source) &&
         flow.reply.source_port != flow.original.destination_port;
}

}  // namespace

std::vector<datapath::NamedAddress> named_elements(const NameBook& book,
                                                   const std::vector<Address>& addresses,
                                                   const policy::Elements& elements) {
  std::vector<datapath::NamedAddress> list;
  const auto now = NameBook::Clock::now();
  for (const Address& address : addresses) {
    const auto local = elements.local_named.find(address);
    const auto remote = elements.remote_named.find(address);
    if (local != elements.local_named.end() && remote != elements.remote_named.end()) {
      const auto left =
          std::chrono::duration_cast<milliseconds>(book.until(address) - now) + kNameGrace;
      list.push_back({address, local->second, remote->second, std::max(left, milliseconds(1000)),
                      comment_of(book.names(address))});
    }
  }
  return list;
}

bool Enforcer::knows_name(const std::string& name) const {
  return !version_->names.index().match(name).empty();
}

std::optional<std::string> Enforcer::doubt(std::uint8_t protocol, const wire::Ends& ends,
                                           std::uint32_t priority) {
  const auto flow =
      find_flow(protocol, {ends.source, ends.destination, ends.source_port, ends.destination_port});
  if (!flow) {
    return "the flow has ended";
  }
  const abi::FlowLabel label{flow->label};
  const auto destination = label.destination();
  const std::uint32_t number = priority & abi::kNumberMask;
  // On lo the priority is the sender's stamp; on other devices rules wrote the receiver's number.
  const bool is_local = (priority & ~abi::kNumberMask) == abi::kStamp;
  const auto asker = is_local ? label.source() : std::optional<Number>(number);
  if (!destination || !asker) {
    // Two workloads (or servers) have used this conntrack entry. Removing it lets the next query
    // begin a flow of its own. A TCP connection cannot have two owners.
    const Status removed = protocol == IPPROTO_UDP ? conntrack_.remove(*flow) : Status{};
    return removed ? std::string("another ") + (destination ? "workload" : "server") +
                         " used the same ports a moment ago"
                   : removed.error().text();
  }
  if (!labels_.contains(*asker)) {
    return "no workload sent the query";
  }
  if (is_local && number != *destination) {
    return "the sender is not the server that was queried";
  }
  if (layout_.owned && is_embedded_resolver(*flow)) {
    return std::nullopt;
  }
  const auto remote = common_.identities.find(*destination);
  const policy::LabelSet* server = labels(*destination);
  server = server == nullptr && remote != nullptr ? &remote->labels : server;
  const std::vector<std::size_t> named = version_->names.networks(flow->reply.source);
  const Endpoint from{.kind = Endpoint::Kind::workload,
                      .labels = labels(*asker),
                      .workload = *asker,
                      .address = {}};
  const Endpoint to{.kind = server != nullptr            ? Endpoint::Kind::workload
                            : *destination == abi::kHost ? Endpoint::Kind::host
                                                         : Endpoint::Kind::world,
                    .labels = server,
                    .workload = server != nullptr ? *destination : 0,
                    .address = flow->reply.source,
                    .named = named};
  const policy::Decision decision =
      policy::evaluate(*version_->policy, from, to, protocol, flow->reply.source_port);
  const bool by_rule = decision.reason == policy::Reason::allow_rule ||
                       decision.reason == policy::Reason::audited_deny;
  return by_rule ? std::nullopt
                 : std::optional(std::string("no rule allows the query: ") +
                                 policy::sentence(decision.reason));
}

Status Enforcer::learn(const std::vector<names::Answer>& answers) {
  NameBook::Change change;
  const auto now = NameBook::Clock::now();
  for (const names::Answer& answer : answers) {
    for (const names::ResolvedAddress& resolved : answer.addresses) {
      version_->names.learn(answer.name, resolved.address, resolved.ttl, now, change);
    }
  }
  for (const auto& [network, count] : change.evicted) {
    if (!log_shares().admit("name servers")) {
      continue;
    }
    spdlog::warn(
        "network '{}' is full ({} addresses by DNS name); removed the earliest to expire: {}",
        version_->policy->networks.at(network).name, NameBook::kMostAddresses, count);
  }
  return write_names(change.written, change.gone);
}

void Enforcer::observe(const std::vector<names::Answer>& answers, std::uint8_t protocol,
                       const wire::Ends& ends, std::uint32_t priority) {
  const auto is_new = [this](const names::Answer& answer) { return !knows_name(answer.name); };
  if (version_->policy->mode != policy::Mode::audit || std::ranges::none_of(answers, is_new)) {
    return;
  }
  std::optional<Number> asker = priority & abi::kNumberMask;
  if ((priority & ~abi::kNumberMask) == abi::kStamp) {  // on lo: the server's number
    const auto flow = find_flow(
        protocol, {ends.source, ends.destination, ends.source_port, ends.destination_port});
    asker = flow ? abi::FlowLabel{flow->label}.source() : std::nullopt;
  }
  if (!asker || !labels_.contains(*asker)) {
    return;
  }
  for (const names::Answer& answer : answers) {
    if (!is_new(answer)) {
      continue;
    }
    for (const names::ResolvedAddress& resolved : answer.addresses) {
      seen_names_.add(*asker, resolved.address, answer.name);
    }
  }
}

Status Enforcer::end_names() {
  const auto now = NameBook::Clock::now();
  const std::vector<Address> due = version_->names.due(now);
  if (due.empty()) {
    return {};
  }
  std::set<Address> in_use;
  const Status listed = conntrack_.each([&](const TrackedFlow& flow) {
    for (const Address& address : {flow.original.source, flow.reply.source}) {
      if ((flow.label[0] & abi::kAuthorized) != 0 && std::ranges::binary_search(due, address)) {
        in_use.insert(address);
      }
    }
  });
  if (!listed) {
    return listed;
  }
  NameBook::Change change;
  version_->names.end(now, in_use, change);
  return write_names(change.written, change.gone);
}

Status Enforcer::write_names(const std::set<Address>& written, const std::set<Address>& gone) {
  if (written.empty() && gone.empty()) {
    return behind_ ? commit({}) : Status{};
  }
  Change change;
  for (const std::set<Address>* list : {&written, &gone}) {
    std::ranges::copy_if(*list, std::back_inserter(change.forgotten),
                         [this](const Address& address) {
                           return version_->compiler.elements().remote_named.contains(address);
                         });
  }
  for (const Address& address : gone) {
    change.deltas.push_back(version_->compiler.unname(address));
  }
  for (const Address& address : written) {
    change.deltas.push_back(version_->compiler.name(address, version_->names.networks(address)));
    change.learned.push_back(address);
  }
  report_names(written);
  report_names(gone);
  Status committed = commit(change);
  for (const std::set<Address>* list : {&written, &gone}) {
    for (const Address& address : *list) {
      // @host is in the daemon's own network namespace, so the gate needs only the names known
      // there.
      const Status set = layout_.owned
                             ? Status{}
                             : common_.local.set_names(address, version_->names.names(address));
      committed = committed ? set : committed;
    }
  }
  return committed;
}

void Enforcer::report_names(const std::set<Address>& addresses) const {
  if (common_.on_named) {
    std::ranges::for_each(addresses, [this](const Address& address) {
      common_.on_named(layout_.point, address, version_->names.names(address));
    });
  }
}

/// Reads the addresses that an earlier daemon has learned back from its table.
Status Enforcer::recall_names() {
  NameBook::Change change;
  const auto now = NameBook::Clock::now();
  for (const kernel::NftSet* set : {&datapath::sets().named4, &datapath::sets().named6}) {
    const auto listed = socket_.list(abi::kTable, set->name);
    if (!listed) {
      return tl::unexpected(listed.error());
    }
    for (const kernel::NftListed& element : *listed) {
      Address address;
      if (element.key.size() > address.bytes.size()) {
        continue;
      }
      address.family = set == &datapath::sets().named4 ? Address::Family::v4 : Address::Family::v6;
      std::ranges::copy(element.key, address.bytes.begin());
      const auto left =
          std::chrono::duration_cast<std::chrono::seconds>(element.remaining) - kNameGrace;
      for (std::size_t at = 0; at < element.comment.size();) {
        const std::size_t end = std::min(element.comment.find(' ', at), element.comment.size());
        version_->names.learn(element.comment.substr(at, end - at), address, left, now, change);
        at = end + 1;
      }
    }
  }
  return write_names(change.written, change.gone);
}

std::vector<std::size_t> Enforcer::named_networks(const Address& address) const {
  return version_->names.networks(address);
}

std::vector<std::string> Enforcer::names(const Address& address, Number asker) const {
  std::vector<std::string> known = version_->names.names(address);
  const std::string* seen = known.empty() ? seen_names_.find(asker, address) : nullptr;
  if (seen != nullptr) {
    known.push_back(*seen);
  }
  return known;
}

std::map<Address, std::vector<std::string>> Enforcer::all_names() const {
  std::map<Address, std::vector<std::string>> all;
  for (const Address& address : version_->names.all()) {
    all.emplace(address, version_->names.names(address));
  }
  return all;
}

std::size_t Enforcer::named() const {
  return version_->names.size();
}

}  // namespace trireme::enforcer
