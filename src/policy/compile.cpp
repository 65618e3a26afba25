// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/compile.hpp"

#include <algorithm>

#include "compile_state.hpp"
#include "compile_tables.hpp"

namespace trireme::policy {

CompilerState::CompilerState(std::shared_ptr<const Policy> the_policy, std::uint32_t first)
    : policy(std::move(the_policy)),
      first_id(first),
      rules(*policy),
      profiles(rules, ledger, first),
      group_ids(first),
      class_ids(first),
      sources(rules.rules().size()),
      destinations(rules.rules().size()) {
  make_tables();
}

void CompilerState::add(Number number, const LabelSet& labels) {
  const auto identity = acquire_identity(labels);
  Workload workload{identity, 0};
  if (!identity->second.group) {
    workload.own_group = group_ids.take();
    ledger.put_same(workload.own_group);
  }
  ledger.put(&Elements::groups, number,
             identity->second.group ? (*identity->second.group)->second.id : workload.own_group);
  ledger.put(&Elements::classes, number, identity->second.klass->second.id);
  workloads.emplace(number, workload);
}

void CompilerState::remove(Number number) {
  const auto found = workloads.find(number);
  if (found == workloads.end()) {
    return;
  }
  const Workload workload = found->second;
  workloads.erase(found);
  ledger.erase(&Elements::groups, number);
  ledger.erase(&Elements::classes, number);
  if (workload.own_group != 0) {
    ledger.erase_same(workload.own_group);
    group_ids.give_back(workload.own_group);
  }
  release_identity(workload.identity);
}

void CompilerState::name(const Address& address, const std::vector<std::size_t>& networks) {
  std::vector<std::size_t> all = networks_at(*policy, rules.networks(), address);
  all.insert(all.end(), networks.begin(), networks.end());
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  const std::array now = {acquire_address_class(rules.match(Entity::Kind::host, all)),
                          acquire_address_class(rules.match(Entity::Kind::world, all))};
  unname(address);
  named.emplace(address, now);
  ledger.put(&Elements::local_named, address, now[0]->second.second.id);
  ledger.put(&Elements::remote_named, address, now[1]->second.second.id);
}

void CompilerState::unname(const Address& address) {
  const auto found = named.find(address);
  if (found == named.end()) {
    return;
  }
  ledger.erase(&Elements::local_named, address);
  ledger.erase(&Elements::remote_named, address);
  std::ranges::for_each(found->second, [this](const auto& klass) { release_address_class(klass); });
  named.erase(found);
}

Compiler::Compiler(std::shared_ptr<const Policy> policy, std::uint32_t first_id)
    : state_(std::make_unique<State>(std::move(policy), first_id)) {}

Compiler::~Compiler() = default;
Compiler::Compiler(Compiler&&) noexcept = default;
Compiler& Compiler::operator=(Compiler&&) noexcept = default;

Delta Compiler::add(Number number, const LabelSet& labels) {
  state_->remove(number);  // nobody has it, or its new bearer takes over: never both
  state_->add(number, labels);
  return state_->ledger.take();
}

Delta Compiler::remove(Number number) {
  state_->remove(number);
  return state_->ledger.take();
}

Delta Compiler::name(const Address& address, const std::vector<std::size_t>& networks) {
  state_->name(address, networks);
  return state_->ledger.take();
}

Delta Compiler::unname(const Address& address) {
  state_->unname(address);
  return state_->ledger.take();
}

std::uint32_t Compiler::first_id() const {
  return state_->first_id;
}

const Tables& Compiler::tables() const {
  return state_->tables;
}

const Elements& Compiler::elements() const {
  return state_->ledger.elements();
}

}  // namespace trireme::policy
