// SPDX-License-Identifier: Apache-2.0
// What name servers tell workloads: addresses that are in networks by their names.
#include "learned_names.hpp"

#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "enforcer_change.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/enforcer/flow_label.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/gate/gate.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;
using policy::Address;
using policy::Endpoint;
using policy::Number;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kCommentText =
    240;  // bytes, of kernel::NftElement::comment; a longer name is asked for again after a restart

/// As many names as fit; a restarted daemon has them from there.
std::string comment_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    if (text.size() + 1 + name.size() <= kCommentText) {
      text += (text.empty() ? "" : " ") + name;
    }
  }
  return text;
}

/// Docker's resolver in a container: its queries are sent to it by a DNAT that only who has
/// CAP_NET_ADMIN there can make.
bool is_embedded_resolver(const TrackedFlow& flow) {
  static const Address resolver = Address::parse("127.0.0.11").value();
  return flow.original.destination == resolver && flow.reply.source == resolver &&
         flow.reply.source_port != flow.original.destination_port;
}

}  // namespace

std::vector<NamedAddress> named_elements(const NameBook& book,
                                         const std::vector<Address>& addresses,
                                         const policy::Elements& elements) {
  std::vector<NamedAddress> list;
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
  return !names_->index().match(name).empty();
}

std::optional<std::string> Enforcer::doubt(std::uint8_t protocol, const wire::Ends& ends,
                                           std::uint32_t priority) {
  const auto flow =
      find_flow(protocol, {ends.source, ends.destination, ends.source_port, ends.destination_port});
  if (!flow) {
    return "its flow has ended";
  }
  const FlowLabel label{flow->label};
  const auto destination = label.destination();
  const std::uint32_t number = priority & gate::kStampedNumber;
  // On lo the gate has stamped who answers; else rules have written who gets the answer.
  const bool is_local = (priority & ~gate::kStampedNumber) == gate::kStamp;
  const auto asker = is_local ? label.source() : std::optional<Number>(number);
  if (!destination || !asker) {
    // The next question begins a flow of its own. TCP's cannot be of two ends.
    const Status removed = protocol == IPPROTO_UDP ? conntrack_.remove(*flow) : Status{};
    return removed ? std::string("another ") + (destination ? "workload" : "server") +
                         " had these ports a moment ago"
                   : removed.error().text();
  }
  if (!labels_.contains(*asker)) {
    return "no workload asked";
  }
  if (is_local && number != *destination) {
    return "it was sent by another than was asked";
  }
  if (layout_.owned && is_embedded_resolver(*flow)) {
    return std::nullopt;
  }
  const auto remote = common_.identities.find(*destination);
  const policy::LabelSet* server = labels(*destination);
  server = server == nullptr && remote != nullptr ? &remote->labels : server;
  const std::vector<std::size_t> named = names_->networks(flow->reply.source);
  const Endpoint from{.kind = Endpoint::Kind::workload,
                      .labels = labels(*asker),
                      .workload = *asker,
                      .address = {}};
  const Endpoint to{.kind = server != nullptr       ? Endpoint::Kind::workload
                            : *destination == kHost ? Endpoint::Kind::host
                                                    : Endpoint::Kind::world,
                    .labels = server,
                    .workload = server != nullptr ? *destination : 0,
                    .address = flow->reply.source,
                    .named = named};
  const policy::Decision decision =
      policy::evaluate(*policy_, from, to, protocol, flow->reply.source_port);
  const bool by_rule = decision.reason == policy::Reason::allow_rule ||
                       decision.reason == policy::Reason::audited_deny;
  return by_rule ? std::nullopt
                 : std::optional(std::string("no rule lets it be asked: ") +
                                 policy::sentence(decision.reason));
}

Status Enforcer::hear(const std::vector<names::Answer>& answers) {
  NameBook::Change change;
  const auto now = NameBook::Clock::now();
  for (const names::Answer& answer : answers) {
    for (const names::Told& told : answer.addresses) {
      names_->hear(answer.name, told.address, told.ttl, now, change);
    }
  }
  for (const auto& [network, count] : change.evicted) {
    if (!log_shares().admit("name servers")) {
      continue;
    }
    spdlog::warn(
        "network '{}' has {} addresses by name, and no room for more: {} that would have ended "
        "first gave way",
        policy_->networks.at(network).name, NameBook::kMostAddresses, count);
  }
  return write_names(change.written, change.gone);
}

Status Enforcer::end_names() {
  const auto now = NameBook::Clock::now();
  const std::vector<Address> due = names_->due(now);
  if (due.empty()) {
    return {};
  }
  std::set<Address> in_use;
  const Status listed = conntrack_.each([&](const TrackedFlow& flow) {
    for (const Address& address : {flow.original.source, flow.reply.source}) {
      if ((flow.label[0] & kAuthorised) != 0 && std::ranges::binary_search(due, address)) {
        in_use.insert(address);
      }
    }
  });
  if (!listed) {
    return listed;
  }
  NameBook::Change change;
  names_->end(now, in_use, change);
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
                           return compiler_.elements().remote_named.contains(address);
                         });
  }
  for (const Address& address : gone) {
    change.deltas.push_back(compiler_.unname(address));
  }
  for (const Address& address : written) {
    change.deltas.push_back(compiler_.name(address, names_->networks(address)));
    change.learned.push_back(address);
  }
  tell_names(written);
  tell_names(gone);
  Status committed = commit(change);
  for (const std::set<Address>* list : {&written, &gone}) {
    for (const Address& address : *list) {
      // @host is in the daemon's own network namespace.
      const Status told =
          layout_.owned ? Status{} : common_.local.set_names(address, names_->names(address));
      committed = committed ? told : committed;
    }
  }
  return committed;
}

void Enforcer::tell_names(const std::set<Address>& addresses) const {
  if (common_.on_named) {
    std::ranges::for_each(addresses, [this](const Address& address) {
      common_.on_named(layout_.point, address, names_->names(address));
    });
  }
}

/// What an earlier daemon has heard is in its table.
Status Enforcer::recall_names() {
  NameBook::Change change;
  const auto now = NameBook::Clock::now();
  for (const kernel::NftSet* set : {&sets().named4, &sets().named6}) {
    const auto listed = socket_.list(kTable, set->name);
    if (!listed) {
      return tl::unexpected(listed.error());
    }
    for (const kernel::NftListed& element : *listed) {
      Address address;
      if (element.key.size() > address.bytes.size()) {
        continue;
      }
      address.family = set == &sets().named4 ? Address::Family::v4 : Address::Family::v6;
      std::ranges::copy(element.key, address.bytes.begin());
      const auto left =
          std::chrono::duration_cast<std::chrono::seconds>(element.remaining) - kNameGrace;
      for (std::size_t at = 0; at < element.comment.size();) {
        const std::size_t end = std::min(element.comment.find(' ', at), element.comment.size());
        names_->hear(element.comment.substr(at, end - at), address, left, now, change);
        at = end + 1;
      }
    }
  }
  return write_names(change.written, change.gone);
}

std::vector<std::size_t> Enforcer::named_networks(const Address& address) const {
  return names_->networks(address);
}

std::vector<std::string> Enforcer::names(const Address& address) const {
  return names_->names(address);
}

std::vector<Address> Enforcer::addresses(const std::string& name) const {
  return names_->addresses(name);
}

std::size_t Enforcer::named() const {
  return names_->size();
}

}  // namespace trireme::enforcer
