// SPDX-License-Identifier: Apache-2.0
#include "first_start.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "first_look.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/datapath/table.hpp"
#include "trireme/kernel/nft.hpp"
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

std::string end_text(const policy::SeenEnd& end) {
  return end.workload.empty() ? end.text() : fmt::format("{} ({})", end.workload, end.text());
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

}  // namespace

FirstStart look_at_first_start(const policy::Policy& policy, const config::Host& host) {
  FirstStart found;
  if (::geteuid() != 0) {
    found.lines.emplace_back("Not running as root: open connections were not checked.");
    return found;
  }
  if (!has_no_table()) {
    return found;
  }
  const auto tree = kernel::CgroupTree::find();
  if (!tree) {
    found.lines.push_back("Open connections were not checked: " + tree.error().text());
    return found;
  }
  const FirstLook survey = look_at_host(*tree, host, kDockerPatience);
  policy::Policy enforced = policy;
  enforced.mode = policy::Mode::enforce;
  const policy::NameIndex names(enforced);
  std::vector<std::pair<std::uint64_t, std::string>> cuts;
  for (const policy::SeenFlow& flow : survey.flows) {
    found.live += flow.count;
    const auto decision = policy::judge(enforced, names, flow);
    const bool is_self = !flow.from.workload.empty() && flow.from.workload == flow.to.workload;
    if (decision.verdict == policy::Verdict::deny && !is_self) {
      found.cut += flow.count;
      cuts.emplace_back(flow.count,
                        fmt::format("  {} x {} -> {} {}: {}", flow.count, end_text(flow.from),
                                    end_text(flow.to), policy::port_text(flow.protocol, flow.port),
                                    decision.rule != nullptr ? decision.rule->text()
                                                             : policy::sentence(decision.reason)));
    }
  }
  found.lines = survey.problems;
  add_list(found.lines, survey.left_alone, "would be left alone, without policy");
  add_list(found.lines, survey.quarantined, "would be quarantined, without network");
  if (survey.workloads == 0 && found.lines.empty()) {
    return found;
  }
  const bool audit = policy.mode == policy::Mode::audit;
  found.lines.push_back(
      fmt::format("First start: {} will come under policy. Of {} open now, {} {}{}",
                  survey.workloads == 1 ? "1 container or unit"
                                        : fmt::format("{} containers and units", survey.workloads),
                  counted(found.live, "connection"), found.cut,
                  audit ? "would be denied, but mode = \"audit\" allows them" : "would be cut",
                  cuts.empty() ? "." : ":"));
  std::ranges::stable_sort(cuts, std::greater{}, [](const auto& cut) { return cut.first; });
  for (std::size_t i = 0; i < std::min(cuts.size(), kMostLines); ++i) {
    found.lines.push_back(cuts[i].second);
  }
  if (cuts.size() > kMostLines) {
    found.lines.push_back(fmt::format("  and {} more kinds", cuts.size() - kMostLines));
  }
  if (found.cut > 0 && !audit) {
    add_advice(found.lines);
  }
  return found;
}

}  // namespace trireme::daemon
