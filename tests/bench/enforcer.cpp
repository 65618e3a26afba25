// SPDX-License-Identifier: Apache-2.0
// What a change costs the kernel transaction by transaction, with so many workloads there already:
// enrolment and end of one, a reload. Prints JSON: medians in microseconds. Needs root; works in a
// network namespace of its own, on cgroup ids that nobody has.
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "trireme/enforcer/enforcer.hpp"

namespace trireme::enforcer {
namespace {

constexpr std::uint64_t kFirstCgroup = 1ULL << 40U;
constexpr std::size_t kTakes = 101;
constexpr std::size_t kReloads = 11;
constexpr std::size_t kReloadWorkloads = 100;

/// Microseconds of one call.
template <typename Call>
double timed(const Call& call) {
  const auto began = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began)
      .count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}\n", result.error().text());
    std::exit(1);
  }
  return std::move(*result);
}
void must(const Status& status) {
  if (!status) {
    fmt::print(stderr, "{}\n", status.error().text());
    std::exit(1);
  }
}

policy::LabelSet labels(const std::string& app) {
  policy::LabelSet set;
  must(set.set("app", app));
  return set;
}

/// From app=wI to app=w(I+1), each on a port of its own.
std::shared_ptr<const policy::Policy> policy_of(std::size_t rules, std::uint16_t first_port) {
  policy::Policy policy;
  for (std::size_t i = 0; i < rules; i++) {
    policy::Rule rule;
    rule.from = {*policy::Selector::parse(fmt::format("app=w{}", i))};
    rule.to = {*policy::Selector::parse(fmt::format("app=w{}", i + 1))};
    const auto port = static_cast<std::uint16_t>(first_port + i);
    rule.ports = {{.protocol = 6, .first = port, .last = port}};
    policy.rules.push_back(std::move(rule));
  }
  return std::make_shared<const policy::Policy>(std::move(policy));
}

/// Workloads of their own label set each, as `count` grows; then one more comes and goes.
nlohmann::json enrolment(const kernel::CgroupTree& tree, const std::vector<std::size_t>& counts) {
  nlohmann::json result;
  policy::Numbers numbers;
  const verifier::Identities identities("", numbers);
  Common common{.tree = tree, .numbers = numbers, .identities = identities};
  const auto enforcer = must(Enforcer::open(common, {}, policy_of(20, 1000)));
  must(enforcer->start());
  std::size_t there = 0;
  const auto enrol = [&](std::size_t i) {
    return must(
        enforcer->enrol({.id = kFirstCgroup + i, .level = 2}, labels("w" + std::to_string(i)), 0));
  };
  for (const std::size_t count : counts) {
    for (; there < count; there++) {
      enrol(there);
    }
    std::vector<double> came;
    std::vector<double> went;
    for (std::size_t take = 0; take < kTakes; take++) {
      policy::Number number = 0;
      came.push_back(timed([&] { number = enrol(there); }));
      went.push_back(timed([&] { must(enforcer->end({.id = kFirstCgroup + there}, number)); }));
    }
    result[std::to_string(count)] = {{"enrol", median(came)}, {"end", median(went)}};
  }
  return result;
}

/// Every port changes with every reload.
nlohmann::json reloads(const kernel::CgroupTree& tree, const std::vector<std::size_t>& counts) {
  nlohmann::json result;
  policy::Numbers numbers;
  const verifier::Identities identities("", numbers);
  Common common{.tree = tree, .numbers = numbers, .identities = identities};
  for (const std::size_t rules : counts) {
    const auto enforcer = must(Enforcer::open(common, {}, policy_of(rules, 1000)));
    must(enforcer->start());
    for (std::size_t i = 0; i < kReloadWorkloads; i++) {
      must(enforcer->enrol({.id = kFirstCgroup + i, .level = 2}, labels("w" + std::to_string(i)),
                           0));
    }
    std::vector<double> taken;
    for (std::size_t take = 0; take < kReloads; take++) {
      const auto next = policy_of(rules, take % 2 == 0 ? 1001 : 1000);
      taken.push_back(timed([&] { must(enforcer->apply(next)); }));
    }
    result[std::to_string(rules)] = median(taken);
  }
  return result;
}

}  // namespace
}  // namespace trireme::enforcer

int main() {
  using namespace trireme;
  if (::unshare(CLONE_NEWNET) != 0) {
    fmt::print(stderr, "cannot make a network namespace\n");
    return 1;
  }
  const auto tree = enforcer::must(kernel::CgroupTree::find());
  const nlohmann::json result = {
      {"workload us by workloads", enforcer::enrolment(tree, {10, 1000, 10'000})},
      {"reload us by rules", enforcer::reloads(tree, {100, 1000})}};
  fmt::print("{}\n", result.dump());
  return 0;
}
