// SPDX-License-Identifier: Apache-2.0
#include "first_start.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "first_look.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/datapath/table.hpp"
#include "trireme/kernel/nft.hpp"
#include "trireme/kernel/probe.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::milliseconds kDockerPatience(3000);
constexpr std::size_t kMostLines = 20;

/// True if trireme has not enforced anything in this network namespace since the last boot.
bool has_no_table() {
  auto socket = kernel::NftSocket::open();
  return socket && !socket->table_exists(abi::kTable).value_or(true);
}

/// As Tokens::start() finds out.
bool kernel_has_queues() {
  return kernel::probe_queue() && kernel::probe_queue_priority();
}

std::string end_text(const policy::SeenEnd& end) {
  const std::string text = end.text();
  return end.workload.empty() || end.workload == text ? text
                                                      : fmt::format("{} ({})", end.workload, text);
}

/// Lists the containers under a heading: their number, then `what`.
void add_list(std::vector<std::string>& lines, const std::vector<std::string>& items,
              const char* what) {
  if (items.empty()) {
    return;
  }
  lines.push_back(fmt::format("{} {}:", counted(items.size(), "container"), what));
  for (std::size_t i = 0; i < std::min(items.size(), kMostLines); ++i) {
    lines.push_back("  " + items[i]);
  }
  if (items.size() > kMostLines) {
    lines.push_back(fmt::format("  and {} more", items.size() - kMostLines));
  }
}

void add_advice(std::vector<std::string>& lines) {
  lines.emplace_back(
      "To start without blocking anything, set mode = \"audit\" under [defaults] in "
      "/etc/trireme/policy.toml.");
  lines.emplace_back(
      "Then 'trirectl flows --follow' shows what would be denied, and 'trirectl policy suggest' "
      "generates the rules you need, including DNS and egress.");
}

/// The cuts, most frequent first, as lines.
std::vector<std::string> cut_lines(std::vector<std::pair<std::uint64_t, std::string>> cuts) {
  std::ranges::stable_sort(cuts, std::greater{}, [](const auto& cut) { return cut.first; });
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < std::min(cuts.size(), kMostLines); ++i) {
    lines.push_back(cuts[i].second);
  }
  if (cuts.size() > kMostLines) {
    lines.push_back(fmt::format("  and {} more kinds", cuts.size() - kMostLines));
  }
  return lines;
}

FirstStart look(const policy::Policy& policy, const config::Host& host, bool is_first) {
  FirstStart found;
  const auto tree = kernel::CgroupTree::find();
  if (!tree) {
    found.lines.push_back("Open connections were not checked: " + tree.error().text());
    return found;
  }
  const FirstLook survey = look_at_host(*tree, host, kernel_has_queues(), kDockerPatience);
  policy::Policy enforced = policy;
  enforced.mode = policy::Mode::enforce;
  const policy::NameIndex names(enforced);
  const bool audit = policy.mode == policy::Mode::audit;
  std::vector<std::pair<std::uint64_t, std::string>> cuts;
  std::uint64_t blocked = 0;
  for (const auto& [flow, why_blocked] : survey.connections) {
    found.live += flow.count;
    const std::uint64_t denied =
        why_blocked.empty() ? policy::count_denied(enforced, names, flow) : flow.count;
    if (denied == 0) {
      continue;
    }
    blocked += why_blocked.empty() ? 0 : denied;
    const auto decision = policy::judge(enforced, names, flow);
    found.cut += denied;
    cuts.emplace_back(denied,
                      fmt::format("  {} x {} -> {} {}: {}", denied, end_text(flow.from),
                                  end_text(flow.to), policy::port_text(flow.protocol, flow.port),
                                  !why_blocked.empty()       ? why_blocked
                                  : decision.rule != nullptr ? decision.rule->text()
                                                             : policy::sentence(decision.reason)));
  }
  if (!is_first && (audit ? blocked : found.cut) == 0) {
    return found;
  }
  found.lines = survey.problems;
  add_list(found.lines, survey.left_alone, "would be left alone, without policy");
  add_list(found.lines, survey.quarantined, "would be quarantined, without network");
  if (is_first && survey.workloads == 0 && found.lines.empty()) {
    return found;
  }
  const std::string outcome =
      !audit ? fmt::format("{} would be cut", found.cut)
             : fmt::format("{} would be denied, but mode = \"audit\" allows them{}",
                           found.cut - blocked,
                           blocked == 0 ? "" : fmt::format("; {} would be cut", blocked));
  found.lines.push_back(fmt::format(
      "{} Of {} open now, {}{}",
      !is_first ? "This configuration would cut open connections."
                : fmt::format("First start: {} will come under policy.",
                              survey.workloads == 1
                                  ? "1 container or unit"
                                  : fmt::format("{} containers and units", survey.workloads)),
      counted(found.live, "connection"), outcome, cuts.empty() ? "." : ":"));
  std::ranges::move(cut_lines(std::move(cuts)), std::back_inserter(found.lines));
  if (found.cut > 0 && !audit) {
    add_advice(found.lines);
  }
  return found;
}

}  // namespace

FirstStart look_at_first_start(const policy::Policy& policy, const config::Host& host) {
  return has_no_table() || ::geteuid() != 0 ? look_at_configuration(policy, host) : FirstStart();
}

FirstStart look_at_configuration(const policy::Policy& policy, const config::Host& host) {
  if (::geteuid() != 0) {
    return {.lines = {"Not running as root: open connections were not checked."}};
  }
  return look(policy, host, has_no_table());
}

}  // namespace trireme::daemon
