#include "trireme/enforcer/enforcer.hpp"

#include <netinet/in.h>
// The kernel's headers define what netinet/in.h has not.
#include <linux/netfilter.h>

#include "enforcer_change.hpp"
#include "learned_names.hpp"
#include "trireme/enforcer/elements.hpp"
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftElement;
using policy::Number;

namespace {

void write_owner(NftBatch& batch, Number number) {
  std::vector<NftElement> list;
  for (const std::uint8_t nfproto : {std::uint8_t{NFPROTO_IPV4}, std::uint8_t{NFPROTO_IPV6}}) {
    list.push_back({.key = NftBytes::u8(nfproto), .data = NftBytes::twice(number)});
  }
  batch.add_elements(sets().owner, list);
}

}  // namespace

Enforcer::Enforcer(kernel::NftSocket socket, kernel::Conntrack conntrack, kernel::SocketTable sockets, Common& common, Layout layout,
                   std::shared_ptr<const policy::Policy> policy)
    : socket_(std::move(socket)),
      conntrack_(std::move(conntrack)),
      sockets_(std::move(sockets)),
      common_(common),
      layout_(layout),
      tree_(common.tree),
      policy_(policy),
      compiler_(policy, 1),
      names_(std::make_unique<NameBook>(std::make_shared<const policy::NameIndex>(*policy))) {}

Enforcer::~Enforcer() = default;

Result<std::unique_ptr<Enforcer>> Enforcer::open(Common& common, Layout layout, std::shared_ptr<const policy::Policy> policy) {
  auto socket = kernel::NftSocket::open();
  auto conntrack = kernel::Conntrack::open();
  auto sockets = kernel::SocketTable::open();
  for (const Error* error :
       {socket ? nullptr : &socket.error(), conntrack ? nullptr : &conntrack.error(), sockets ? nullptr : &sockets.error()}) {
    if (error != nullptr) {
      return tl::unexpected(*error);
    }
  }
  std::unique_ptr<Enforcer> enforcer(
      new Enforcer(std::move(*socket), std::move(*conntrack), std::move(*sockets), common, layout, std::move(policy)));
  if (Status recalled = enforcer->recall_names(); !recalled) {
    return tl::unexpected(recalled.error());
  }
  return enforcer;
}

Status Enforcer::start() {
  const Status written = write_everything();
  live_ = live_ || written.has_value();
  return written;
}

Status Enforcer::write_everything() {
  NftBatch batch(kTable);
  write_ruleset(batch, layout_);
  if (common_.multicast) {
    write_multicast(batch);
  }
  write_refusal(batch, *policy_);
  write_tables(batch, compiler_.tables(), compiler_.first_id());
  write_elements(batch, compiler_.elements(), compiler_.first_id(), false);
  write_named(batch, named_elements(*names_, names_->all(), compiler_.elements()));
  write_answers(batch, *policy_);
  std::vector<Number> numbers = {kHost};
  for (const auto& [number, labels] : labels_) {
    numbers.push_back(number);
  }
  write_numbers(batch, numbers, false);
  std::vector<NftElement> list;
  Number owner = kQuarantine;
  for (const auto& [id, member] : members_) {
    if (member.level == 0) {
      owner = member.number;
    } else {
      list.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(member.number)});
    }
  }
  batch.add_elements(sets().workloads, list);
  if (layout_.owned) {
    write_owner(batch, owner);
  }
  write_speakers(batch, speakers_);
  write_depth(batch, depth());
  const Status committed = socket_.commit(std::move(batch));
  behind_ = !committed;
  if (committed) {
    written_depth_ = depth();
  }
  return committed;
}

Status Enforcer::commit(const Change& change) {
  if (!live_) {
    return {};
  }
  if (behind_) {
    return write_everything();
  }
  NftBatch batch(kTable);
  if (depth() != written_depth_) {
    for (const kernel::NftSet* set : {&sets().enter_out_lo, &sets().enter_out_net, &sets().enter_in_lo, &sets().enter_in_net}) {
      batch.flush_set(*set);
    }
    write_depth(batch, depth());
  }
  std::vector<NftElement> leaving;
  for (const std::uint64_t id : change.leaving) {
    leaving.push_back({.key = NftBytes::u64(id)});
  }
  batch.delete_elements(sets().workloads, leaving);
  write_numbers(batch, change.unnamed, true);
  remove_named(batch, change.forgotten);
  for (const policy::Delta& delta : change.deltas) {
    write_elements(batch, delta.remove, compiler_.first_id(), true);
    write_elements(batch, delta.add, compiler_.first_id(), false);
  }
  write_numbers(batch, change.named, false);
  write_named(batch, named_elements(*names_, change.learned, compiler_.elements()));
  std::vector<NftElement> joining;
  for (const auto& [id, number] : change.joining) {
    joining.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(number)});
  }
  batch.add_elements(sets().workloads, joining);
  if (change.owner) {
    batch.flush_set(sets().owner);
    write_owner(batch, *change.owner);
  }
  const Status committed = socket_.commit(std::move(batch));
  if (committed) {
    written_depth_ = depth();
    return {};
  }
  // Somebody else changed the table, or it is gone: everything is written anew, the change included.
  return write_everything();
}

std::uint32_t Enforcer::depth() const {
  return levels_.empty() ? (layout_.owned ? 0 : 1) : levels_.rbegin()->first;
}

/// Where the kernel has no such filter, the host does without: multicast() says so.
Status Enforcer::shut_multicast(const std::string& path) const {
  return common_.multicast && !path.empty() ? common_.multicast->attach(tree_.absolute(path)) : Status{};
}

/// A cgroup without a process has no sockets: that of a container at its birth.
void Enforcer::note_unsettled(const workload::CgroupRef& cgroup) {
  if (cgroup.whole_network) {
    all_unsettled_ = true;
  } else if (!cgroup.path.empty() && tree_.populated(cgroup.path)) {
    unsettled_.push_back(cgroup.path);
  }
}

void Enforcer::remember(std::uint64_t cgroup_id, Member member) {
  members_[cgroup_id] = member;
  levels_[member.level]++;
}

void Enforcer::forget(std::uint64_t cgroup_id) {
  const auto member = members_.find(cgroup_id);
  if (member == members_.end()) {
    return;
  }
  const auto level = levels_.find(member->second.level);
  if (--level->second == 0) {
    levels_.erase(level);
  }
  members_.erase(member);
}

Status Enforcer::check_level(const workload::CgroupRef& cgroup) const {
  if (cgroup.whole_network) {
    return layout_.owned ? Status{} : fail("nobody can have the whole network namespace of this host");
  }
  if (cgroup.level < 1 || cgroup.level > kMaxLevel) {
    return fail("the cgroup is " + std::to_string(cgroup.level) + " levels deep; trireme can enforce 1 to " + std::to_string(kMaxLevel));
  }
  return {};
}

void Enforcer::leave(Number number) {
  common_.numbers.give_back(number);
  if (common_.on_leave) {
    common_.on_leave(number);
  }
}

Result<Number> Enforcer::enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  if (Status fits = check_level(cgroup); !fits) {
    return tl::unexpected(fits.error());
  }
  if (Status shut = shut_multicast(cgroup.path); !shut) {
    return tl::unexpected(shut.error());
  }
  const auto known = members_.find(cgroup.id);
  const std::optional<Member> before = known == members_.end() ? std::nullopt : std::optional(known->second);
  const bool renumber = before && before->number != kQuarantine;
  if (number == 0) {
    if (Status provable = common_.check ? common_.check(labels) : Status{}; !provable) {
      return tl::unexpected(provable.error());
    }
    const auto fresh = common_.numbers.take();
    if (!fresh) {
      return fail("all 16 million workload numbers are in use");
    }
    number = *fresh;
  } else if (!common_.numbers.take(number)) {
    return fail("workload number " + std::to_string(number) + " is taken or out of range");
  }
  if (common_.on_join) {
    common_.on_join(number, labels);
  }

  Change change;
  std::optional<policy::LabelSet> old_labels;
  if (renumber) {
    old_labels = labels_.at(before->number);
    change.deltas.push_back(compiler_.remove(before->number));
    change.unnamed.push_back(before->number);
    labels_.erase(before->number);
  }
  if (before) {
    if (before->level != 0) {
      change.leaving.push_back(cgroup.id);
    }
    forget(cgroup.id);
  }
  change.deltas.push_back(compiler_.add(number, labels));
  change.named.push_back(number);
  if (cgroup.whole_network) {
    change.owner = number;
  } else {
    change.joining.emplace_back(cgroup.id, number);
  }
  labels_[number] = labels;
  remember(cgroup.id, {cgroup.whole_network ? 0 : cgroup.level, number, cgroup.path});

  const Status committed = commit(change);
  if (!committed) {
    // The kernel kept what it had; so do we.
    compiler_.remove(number);
    labels_.erase(number);
    forget(cgroup.id);
    if (renumber) {
      compiler_.add(before->number, *old_labels);
      labels_[before->number] = *old_labels;
    }
    if (before) {
      remember(cgroup.id, *before);
    }
    leave(number);
    return tl::unexpected(committed.error());
  }
  if (renumber) {
    leave(before->number);
  }
  if (!before && !cgroup.settled) {
    note_unsettled(cgroup);
  }
  return number;
}

Status Enforcer::quarantine(workload::CgroupRef cgroup) {
  if (Status fits = check_level(cgroup); !fits) {
    return fits;
  }
  const auto known = members_.find(cgroup.id);
  if (known != members_.end() && known->second.number == kQuarantine) {
    return behind_ ? commit({}) : Status{};
  }
  Change change;
  std::optional<Number> old;
  if (known != members_.end()) {
    old = known->second.number;
    change.deltas.push_back(compiler_.remove(*old));
    change.unnamed.push_back(*old);
    if (known->second.level != 0) {
      change.leaving.push_back(cgroup.id);
    }
    labels_.erase(*old);
    forget(cgroup.id);
  }
  if (!cgroup.settled) {
    note_unsettled(cgroup);
  }
  if (cgroup.whole_network) {
    change.owner = kQuarantine;
  } else {
    change.joining.emplace_back(cgroup.id, kQuarantine);
  }
  remember(cgroup.id, {cgroup.whole_network ? 0 : cgroup.level, kQuarantine, cgroup.path});
  // A failed transaction leaves the model ahead of the kernel, on the closed side; the next change, or repair(), brings the kernel along.
  const Status committed = commit(change);
  if (old) {
    leave(*old);
  }
  const Status shut = shut_multicast(cgroup.path);
  return committed ? shut : committed;
}

Status Enforcer::end(const workload::CgroupRef& cgroup, Number number) {
  const auto known = members_.find(cgroup.id);
  if (known == members_.end()) {
    return {};
  }
  if (number != 0 && known->second.number != number) {
    return fail("cgroup " + std::to_string(cgroup.id) + " has number " + std::to_string(known->second.number) + ", not " +
                std::to_string(number));
  }
  Change change;
  if (known->second.level == 0) {
    change.owner = kQuarantine;  // while the namespace lives, and with it perhaps others in it
  } else {
    change.leaving.push_back(cgroup.id);
  }
  const Number old = known->second.number;
  if (old != kQuarantine) {
    change.deltas.push_back(compiler_.remove(known->second.number));
    change.unnamed.push_back(known->second.number);
    labels_.erase(known->second.number);
  }
  const std::string path = known->second.path;
  forget(cgroup.id);
  const Status committed = commit(change);
  if (old != kQuarantine) {
    leave(old);
  }
  if (const auto there = tree_.id(path); committed && !path.empty() && there && *there == cgroup.id) {
    return kernel::MulticastFilter::detach(tree_.absolute(path));  // a workload no longer, though its cgroup lives on
  }
  return committed;
}

Status Enforcer::apply(std::shared_ptr<const policy::Policy> policy) {
  // Identifiers of the two policies are disjoint, so that no packet is judged by half of each (see Writer::twice).
  constexpr std::uint32_t kSecondHalf = 1U << 31U;
  policy::Compiler next(policy, compiler_.first_id() == kSecondHalf ? 1 : kSecondHalf);
  for (const auto& [number, labels] : labels_) {
    next.add(number, labels);
  }
  auto names = std::make_unique<NameBook>(*names_);
  names->set_index(std::make_shared<const policy::NameIndex>(*policy));
  for (const policy::Address& address : names->all()) {
    next.name(address, names->networks(address));
  }
  if (live_) {
    const policy::Delta delta = policy::difference(compiler_.elements(), next.elements());
    NftBatch batch(kTable);
    flush_tables(batch);
    write_tables(batch, next.tables(), next.first_id());
    batch.flush_set(sets().refusal);
    batch.flush_set(sets().auditing);
    write_refusal(batch, *policy);
    write_elements(batch, delta.remove, compiler_.first_id(), true);
    write_elements(batch, delta.add, next.first_id(), false);
    flush_named(batch);
    write_named(batch, named_elements(*names, names->all(), next.elements()));
    batch.flush_set(sets().answers);
    write_answers(batch, *policy);
    Status committed = socket_.commit(std::move(batch));
    const auto exchange = [&] {
      std::swap(policy_, policy);
      std::swap(compiler_, next);
      std::swap(names_, names);
    };
    if (!committed) {
      exchange();
      if (committed = write_everything(); !committed) {
        exchange();
        return committed;
      }
      exchange();  // as below
    }
  }
  policy_ = std::move(policy);
  compiler_ = std::move(next);
  std::swap(names_, names);
  const std::vector<policy::Address> before = names->all();
  tell_names({before.begin(), before.end()});
  return {};
}

Status Enforcer::set_speakers(std::vector<policy::Prefix> speakers) {
  if (speakers == speakers_) {
    return {};
  }
  std::swap(speakers, speakers_);
  if (!live_) {
    return {};
  }
  NftBatch batch(kTable);
  batch.flush_set(sets().speakers4);
  batch.flush_set(sets().speakers6);
  write_speakers(batch, speakers_);
  Status committed = behind_ ? fail("the table is not up to date") : socket_.commit(std::move(batch));
  if (!committed) {
    committed = write_everything();
  }
  if (!committed) {
    std::swap(speakers, speakers_);
  }
  return committed;
}

const policy::LabelSet* Enforcer::labels(Number number) const {
  const auto found = labels_.find(number);
  return found == labels_.end() ? nullptr : &found->second;
}

}  // namespace trireme::enforcer
