#include "trireme/enforcer/local_policy.hpp"

namespace trireme::enforcer {
namespace {

/// Identifiers of two policies that are in force at once are disjoint.
constexpr std::uint32_t kSecondHalf = 1U << 31U;

std::unique_ptr<policy::Compiler> compile(const std::shared_ptr<const policy::Policy>& policy,
                                          std::uint32_t first_id,
                                          const std::map<policy::Number, policy::LabelSet>& all) {
  auto compiler = std::make_unique<policy::Compiler>(policy, first_id);
  for (const auto& [number, labels] : all) {
    compiler->add(number, labels);
  }
  return compiler;
}

}  // namespace

LocalPolicy::LocalPolicy(std::unique_ptr<gate::Gate> gate,
                         std::shared_ptr<const policy::Policy> policy)
    : gate_(std::move(gate)), policy_(std::move(policy)), compiler_(compile(policy_, 1, {})) {}

/// Writes the policy in force anew, with room for what has come.
Status LocalPolicy::write_all() {
  if (Status done = gate_->prepare(compiler_->tables(), compiler_->elements(),
                                   compiler_->first_id(), policy_->mode == policy::Mode::audit);
      !done) {
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
    if (!numbers_.contains(id) && !adopted_.contains(id)) {
      if (Status done = gate_->end(id); !done) {
        return done;
      }
    }
  }
  // The numbers of an earlier daemon are the same ones: they are on the cgroups.
  Status done = write_all();
  for (const auto& [id, number] : numbers_) {
    done = done ? gate_->set(id, number) : done;
  }
  for (const auto& [id, number] : adopted_) {
    done = done ? gate_->adopt(id, number) : done;
  }
  done = done ? gate_->attach() : done;
  live_ = done.has_value();
  return done;
}

Status LocalPolicy::change(const policy::Delta& delta) {
  if (!live_) {
    return {};
  }
  const Status changed = gate_->change(delta);
  return changed ? changed : write_all();
}

/// The workload that the cgroup was, if it was one.
Status LocalPolicy::forget(std::uint64_t cgroup_id) {
  const auto known = numbers_.find(cgroup_id);
  if (known == numbers_.end()) {
    return {};
  }
  const policy::Number number = known->second;
  numbers_.erase(known);
  if (number == gate::Gate::kQuarantine) {
    return {};
  }
  labels_.erase(number);
  return change(compiler_->remove(number));
}

Status LocalPolicy::enrol(std::uint64_t cgroup_id, policy::Number number,
                          const policy::LabelSet& labels) {
  const auto known = numbers_.find(cgroup_id);
  const policy::Number before = known == numbers_.end() ? 0 : known->second;
  // What the number may do is there before it is the cgroup's.
  labels_[number] = labels;
  Status done = change(compiler_->add(number, labels));
  numbers_[cgroup_id] = number;
  done = done && live_ ? gate_->set(cgroup_id, number) : done;
  if (before != 0 && before != number && before != gate::Gate::kQuarantine) {
    labels_.erase(before);
    const Status left = change(compiler_->remove(before));
    done = done ? left : done;
  }
  return done;
}

Status LocalPolicy::quarantine(std::uint64_t cgroup_id) {
  const Status done = live_ ? gate_->set(cgroup_id, gate::Gate::kQuarantine) : Status{};
  const Status forgotten = forget(cgroup_id);
  numbers_[cgroup_id] = gate::Gate::kQuarantine;
  return done ? forgotten : done;
}

Status LocalPolicy::end(std::uint64_t cgroup_id, bool lives_on) {
  if (!numbers_.contains(cgroup_id)) {
    return {};
  }
  const Status done = !live_     ? Status{}
                      : lives_on ? gate_->release(cgroup_id)
                                 : gate_->end(cgroup_id);
  const Status forgotten = forget(cgroup_id);
  return done ? forgotten : done;
}

Status LocalPolicy::adopt(std::uint64_t cgroup_id, policy::Number number) {
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
  const Status mended = *attached ? Status{} : gate_->attach();
  return mended ? Result<bool>(!*attached) : tl::unexpected(mended.error());
}

Result<bool> LocalPolicy::check_number(std::uint64_t cgroup_id) const {
  const auto known = numbers_.find(cgroup_id);
  if (!live_ || known == numbers_.end() || gate_->number(cgroup_id) == known->second) {
    return false;
  }
  const Status mended = gate_->set(cgroup_id, known->second);
  return mended ? Result<bool>(true) : tl::unexpected(mended.error());
}

Status LocalPolicy::prepare(std::shared_ptr<const policy::Policy> policy) {
  next_policy_ = std::move(policy);
  next_ = compile(next_policy_, compiler_->first_id() == kSecondHalf ? 1 : kSecondHalf, labels_);
  return live_ ? gate_->prepare(next_->tables(), next_->elements(), next_->first_id(),
                                next_policy_->mode == policy::Mode::audit)
               : Status{};
}

Status LocalPolicy::finish() {
  compiler_ = std::move(next_);
  policy_ = std::move(next_policy_);
  return live_ ? gate_->finish() : Status{};
}

void LocalPolicy::cancel() {
  next_.reset();
  next_policy_.reset();
  if (live_) {
    std::ignore = gate_->cancel();
  }
}

}  // namespace trireme::enforcer
