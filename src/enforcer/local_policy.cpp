// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/local_policy.hpp"

#include <algorithm>

#include "trireme/abi/flow_label.hpp"

namespace trireme::enforcer {

using policy::Address;
using policy::Number;

namespace {

/// First identifier of every second policy: two policies that are in force at once (during a
/// reload) must have disjoint identifiers.
constexpr std::uint32_t kSecondHalf = 1U << 31U;

policy::SetPeer peer(const LocalEnd& end) {
  return end.number == abi::kHost
             ? policy::SetPeer{.number = 0, .address = end.address, .local = true}
             : policy::SetPeer{.number = end.number, .address = {}};
}

}  // namespace

/// A policy, compiled for all workloads and named addresses of this host.
struct LocalPolicy::Version {
  std::shared_ptr<const policy::Policy> policy;
  policy::NameIndex index;
  policy::Compiler compiler;
};

LocalPolicy::LocalPolicy(const kernel::CgroupTree& tree, std::unique_ptr<gate::Gate> gate,
                         std::shared_ptr<const policy::Policy> policy)
    : tree_(tree), gate_(std::move(gate)), now_(compile(std::move(policy), 1)) {}

LocalPolicy::~LocalPolicy() = default;

std::unique_ptr<LocalPolicy::Version> LocalPolicy::compile(
    std::shared_ptr<const policy::Policy> policy, std::uint32_t first_id) const {
  auto version = std::make_unique<Version>(
      Version{policy, policy::NameIndex(*policy), policy::Compiler(policy, first_id)});
  for (const auto& [number, labels] : labels_) {
    version->compiler.add(number, labels);
  }
  for (const auto& [address, names] : names_) {
    std::ignore = name(*version, address);
  }
  return version;
}

bool LocalPolicy::audits() const {
  return now_->policy->mode == policy::Mode::audit;
}

/// Rewrites the policy in force, into maps with enough room for all workloads.
Status LocalPolicy::write_all() {
  const policy::Compiler& compiler = now_->compiler;
  if (Status done = gate_->prepare(compiler.tables(), compiler.elements(), audits()); !done) {
    return done;
  }
  return gate_->finish();
}

Status LocalPolicy::start() {
  auto before = gate_->numbers();
  if (!before) {
    return tl::unexpected(before.error());
  }
  for (const auto& [id, number] : *before) {
    // New cgroups that the kernel quarantined and no source has reported yet keep that number.
    if (!members_.contains(id) && !adopted_.contains(id) && number != abi::kBorn) {
      if (Status done = gate_->end(id); !done) {
        return done;
      }
    }
  }
  // Workloads have the same numbers as under an earlier daemon, which saved them on their cgroups.
  Status done = write_all();
  for (const auto& [id, member] : members_) {
    done = done ? gate_->set(id, member.number) : done;
  }
  for (const auto& [id, number] : adopted_) {
    done = done ? gate_->adopt(id, number) : done;
  }
  if (done) {
    std::ignore = gate_->look_through();  // the daemon repeats it and reports problems
  }
  done = done ? gate_->attach() : done;
  live_ = done.has_value();
  return done;
}

Status LocalPolicy::change(const policy::Delta& delta) {
  if (!live_ || delta.empty()) {
    return {};
  }
  const Status changed = gate_->change(delta);
  return changed ? changed : write_all();
}

/// Removes the cgroup from the model, and its workload's number from the policy.
Status LocalPolicy::forget(std::uint64_t cgroup_id) {
  const auto known = members_.find(cgroup_id);
  if (known == members_.end()) {
    return {};
  }
  const Number number = known->second.number;
  members_.erase(known);
  if (number == abi::kQuarantine) {
    return {};
  }
  labels_.erase(number);
  return change(now_->compiler.remove(number));
}

Status LocalPolicy::enrol(const workload::CgroupRef& cgroup, Number number,
                          const policy::LabelSet& labels) {
  const auto known = members_.find(cgroup.id);
  const Number before = known == members_.end() ? 0 : known->second.number;
  // Write the number's policy before the cgroup gets the number.
  labels_[number] = labels;
  Status done = change(now_->compiler.add(number, labels));
  members_[cgroup.id] = {number, cgroup.path};
  done = done && live_ ? gate_->set(cgroup.id, number) : done;
  if (before != 0 && before != number && before != abi::kQuarantine) {
    labels_.erase(before);
    const Status left = change(now_->compiler.remove(before));
    done = done ? left : done;
  }
  return done;
}

Status LocalPolicy::quarantine(const workload::CgroupRef& cgroup) {
  const Status done = live_ ? gate_->set(cgroup.id, abi::kQuarantine) : Status{};
  const Status forgotten = forget(cgroup.id);
  members_[cgroup.id] = {abi::kQuarantine, cgroup.path};
  return done ? forgotten : done;
}

Status LocalPolicy::end(std::uint64_t cgroup_id) {
  if (!members_.contains(cgroup_id)) {
    return {};
  }
  const Status done = live_ ? gate_->end(cgroup_id) : Status{};
  const Status forgotten = forget(cgroup_id);
  return done ? forgotten : done;
}

Status LocalPolicy::release(std::uint64_t cgroup_id) {
  // Also before start(): otherwise start() would find the number that an earlier daemon gave the
  // cgroup and treat the cgroup as removed.
  const Status done = gate_->release(cgroup_id);
  const Status forgotten = forget(cgroup_id);
  return done ? forgotten : done;
}

Status LocalPolicy::adopt(std::uint64_t cgroup_id, Number number) {
  adopted_[cgroup_id] = number;
  return live_ ? gate_->adopt(cgroup_id, number) : Status{};
}

Status LocalPolicy::orphan(std::uint64_t cgroup_id) {
  const bool known = adopted_.erase(cgroup_id) > 0;
  return known && live_ ? gate_->end(cgroup_id) : Status{};
}

Result<bool> LocalPolicy::check_programs() const {
  const auto attached = live_ ? gate_->is_attached() : Result<bool>(true);
  if (!attached) {
    return attached;
  }
  const Status repaired = *attached ? Status{} : gate_->attach();
  return repaired ? Result<bool>(!*attached) : tl::unexpected(repaired.error());
}

Result<bool> LocalPolicy::check_number(std::uint64_t cgroup_id) const {
  const auto known = members_.find(cgroup_id);
  if (!live_ || known == members_.end() || gate_->number(cgroup_id) == known->second.number) {
    return false;
  }
  const Status repaired = gate_->set(cgroup_id, known->second.number);
  return repaired ? Result<bool>(true) : tl::unexpected(repaired.error());
}

Status LocalPolicy::prepare(std::shared_ptr<const policy::Policy> policy) {
  next_ = compile(std::move(policy), now_->compiler.first_id() == kSecondHalf ? 1 : kSecondHalf);
  const policy::Compiler& compiler = next_->compiler;
  return live_ ? gate_->prepare(compiler.tables(), compiler.elements(),
                                next_->policy->mode == policy::Mode::audit)
               : Status{};
}

Status LocalPolicy::finish() {
  now_ = std::move(next_);
  return live_ ? gate_->finish() : Status{};
}

void LocalPolicy::cancel() {
  next_.reset();
  if (live_) {
    std::ignore = gate_->cancel();
  }
}

// --- addresses of @host ---

bool LocalPolicy::is_own(const Address& address) const {
  return address.is_loopback() || std::ranges::any_of(own_, [&](const policy::Prefix& prefix) {
           return prefix.contains(address);
         });
}

policy::Delta LocalPolicy::name(Version& version, const Address& address) const {
  std::vector<std::size_t> networks;
  const auto known = names_.find(address);
  if (known != names_.end() && is_own(address)) {
    for (const std::string& text : known->second) {
      const auto matching = version.index.match(text);
      networks.insert(networks.end(), matching.begin(), matching.end());
    }
  }
  std::ranges::sort(networks);
  const auto repeated = std::ranges::unique(networks);
  networks.erase(repeated.begin(), repeated.end());
  return networks.empty() ? version.compiler.unname(address)
                          : version.compiler.name(address, networks);
}

Status LocalPolicy::set_names(const Address& address, std::vector<std::string> names) {
  if (names.empty()) {
    names_.erase(address);
  } else {
    names_[address] = std::move(names);
  }
  return change(name(*now_, address));
}

Status LocalPolicy::set_own(std::vector<policy::Prefix> addresses) {
  if (own_ == addresses) {
    return {};
  }
  own_ = std::move(addresses);
  Status done;
  for (const auto& [address, names] : names_) {
    const Status changed = change(name(*now_, address));
    done = done ? changed : done;
  }
  return done;
}

// --- what the gate decides ---

/// Adds the cgroups below a workload's cgroup that have no number of their own.
void LocalPolicy::inherit(const std::string& path, Number number, Owners& owners) const {
  for (const std::string& name : tree_.children(path)) {
    const std::string child = path + "/" + name;
    const auto id = tree_.id(child);
    if (id && owners.emplace(*id, number).second) {
      inherit(child, number, owners);
    }
  }
}

void LocalPolicy::list_below(const std::string& path,
                             std::unordered_set<std::uint64_t>& ids) const {
  for (const std::string& name : tree_.children(path)) {
    const std::string child = path + "/" + name;
    if (const auto id = tree_.id(child)) {
      ids.insert(*id);
      list_below(child, ids);
    }
  }
}

std::unordered_set<std::uint64_t> LocalPolicy::living_cgroups() const {
  std::unordered_set<std::uint64_t> ids;
  if (const auto top = tree_.id("/")) {
    ids.insert(*top);
  }
  list_below("", ids);
  return ids;
}

Result<LocalPolicy::Owners> LocalPolicy::owners() const {
  auto numbers = gate_->numbers();
  if (!numbers) {
    return numbers;
  }
  for (const auto& [id, member] : members_) {
    (*numbers)[id] = member.number;
  }
  for (const auto& [id, number] : adopted_) {
    (*numbers)[id] = number;
  }
  for (const auto& [id, member] : members_) {
    if (!member.path.empty()) {
      inherit(member.path, member.number, *numbers);
    }
  }
  return numbers;
}

bool LocalPolicy::allows(const LocalEnd& from, const LocalEnd& to, std::uint8_t protocol,
                         std::uint16_t port) const {
  return from.number == to.number ||
         policy::judge(now_->compiler.tables(), now_->compiler.elements(), peer(from), peer(to),
                       protocol, port)
             .has_value();
}

}  // namespace trireme::enforcer
