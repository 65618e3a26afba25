// SPDX-License-Identifier: Apache-2.0
// Measures the enforcer's transactions with an increasing number of workloads: enrollment and end
// of one workload, and a reload. Prints JSON: medians in microseconds. Needs root. Works in a
// network namespace of its own, with cgroup ids that no cgroup has.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/gate/gate.hpp"

namespace trireme::enforcer {
namespace {

constexpr std::uint64_t kFirstCgroup = 1ULL << 40U;
constexpr std::size_t kTakes = 101;
constexpr std::size_t kReloads = 11;
constexpr std::size_t kReloadWorkloads = 100;

/// Duration of one call in microseconds.
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

/// Rules from app=wI to app=w(I+1), each for a different port.
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

/// A gate that is attached nowhere, in a cgroup of its own: the enforcer wants one, and what is
/// measured does not use it.
class IdleGate {
 public:
  explicit IdleGate(const kernel::CgroupTree& tree)
      : tree_(tree),
        path_(fmt::format("/trireme-bench-{}.slice", ::getpid())),
        local_(tree, open_in(tree, path_), policy_of(1, 1)) {}
  ~IdleGate() { std::ignore = tree_.remove(path_); }
  IdleGate(const IdleGate&) = delete;
  IdleGate& operator=(const IdleGate&) = delete;

  [[nodiscard]] LocalPolicy& local() { return local_; }

 private:
  static std::unique_ptr<gate::Gate> open_in(const kernel::CgroupTree& tree,
                                             const std::string& path) {
    must(tree.create(path));
    return must(gate::Gate::open(tree.absolute(path)));
  }

  const kernel::CgroupTree& tree_;
  std::string path_;
  LocalPolicy local_;
};

/// Enrolls workloads, each with its own label set, up to each `count`; then times the enrollment
/// and the end of more workloads.
nlohmann::json enrolment(const kernel::CgroupTree& tree, const std::vector<std::size_t>& counts) {
  nlohmann::json result;
  policy::Numbers numbers;
  const verifier::Identities identities("", numbers);
  IdleGate gate(tree);
  Common common{.tree = tree, .numbers = numbers, .identities = identities, .local = gate.local()};
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

/// Times reloads that each change the ports of all rules.
nlohmann::json reloads(const kernel::CgroupTree& tree, const std::vector<std::size_t>& counts) {
  nlohmann::json result;
  policy::Numbers numbers;
  const verifier::Identities identities("", numbers);
  IdleGate gate(tree);
  Common common{.tree = tree, .numbers = numbers, .identities = identities, .local = gate.local()};
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
    fmt::print(stderr, "cannot create a network namespace; run as root\n");
    return 1;
  }
  const auto tree = enforcer::must(kernel::CgroupTree::find());
  const nlohmann::json result = {
      {"workload us by workloads", enforcer::enrolment(tree, {10, 1000, 10'000})},
      {"reload us by rules", enforcer::reloads(tree, {100, 1000})}};
  fmt::print("{}\n", result.dump());
  return 0;
}
