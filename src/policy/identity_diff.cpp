// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/identity_diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace trireme::policy {
namespace {

std::string labels_text(const LabelSet& labels) {
  return labels.empty() ? "no labels" : labels.text();
}

bool is_same(const Resident& one, const Resident& other) {
  return one.labels == other.labels && one.blocked.empty() == other.blocked.empty();
}

}  // namespace

std::string IdentityChange::text() const {
  if (!after) {
    return fmt::format("{} is no longer a workload", name());
  }
  if (!after->blocked.empty()) {
    return fmt::format("{} would be quarantined: {}", name(), after->blocked);
  }
  if (!before) {
    return fmt::format("{} becomes a workload with {}", name(), labels_text(after->labels));
  }
  if (before->labels == after->labels) {
    return fmt::format("{} would be released from quarantine", name());
  }
  return fmt::format("{} changes from {} to {}", name(), labels_text(before->labels),
                     labels_text(after->labels));
}

IdentityDiff::IdentityDiff(const std::vector<Resident>& before,
                           const std::vector<Resident>& after) {
  std::map<std::string, std::pair<const Resident*, const Resident*>> both;
  for (const Resident& resident : before) {
    both[resident.key].first = &resident;
  }
  std::set<LabelSet> labels;
  for (const Resident& resident : after) {
    both[resident.key].second = &resident;
    if (resident.blocked.empty()) {
      labels.insert(resident.labels);
    }
  }
  labels_after_.assign(labels.begin(), labels.end());
  for (const auto& [key, pair] : both) {
    const auto& [was, is] = pair;
    if (was == nullptr || is == nullptr || !is_same(*was, *is)) {
      changes_.push_back({was == nullptr ? std::nullopt : std::optional(*was),
                          is == nullptr ? std::nullopt : std::optional(*is)});
    }
  }
  std::ranges::stable_sort(changes_, {}, [](const IdentityChange& each) { return each.name(); });
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    const IdentityChange& change = changes_[i];
    if (change.before) {
      by_name_[change.before->name] = i;
    } else {
      by_key_[change.after->key] = i;
    }
  }
}

SeenEnd IdentityDiff::moved(const SeenEnd& end, bool is_local, Moved& result) const {
  const auto& index = end.labels ? by_name_ : by_key_;
  const auto found = index.find(end.labels ? end.workload : end.cgroup);
  if (found == index.end() || found->first.empty()) {
    return end;
  }
  result.because.push_back(found->second);
  const IdentityChange& change = changes_[found->second];
  SeenEnd made = end;
  if (!change.after) {
    made.labels.reset();
    made.workload.clear();
    made.host = is_local;
    made.cgroup = change.before->key;
    return made;
  }
  if (!change.after->blocked.empty()) {
    result.blocked = fmt::format("{} would be quarantined", change.after->name);
  }
  made.labels = change.after->labels;
  made.workload = change.after->name;
  made.cgroup.clear();
  return made;
}

IdentityDiff::Moved IdentityDiff::apply(const SeenFlow& flow) const {
  Moved result;
  result.flow = flow;
  result.flow.from = moved(flow.from, flow.is_local, result);
  result.flow.to = moved(flow.to, flow.is_local, result);
  const SeenEnd& from = result.flow.from;
  const SeenEnd& to = result.flow.to;
  result.is_own =
      from.labels && to.labels && !from.workload.empty() && from.workload == to.workload;
  return result;
}

}  // namespace trireme::policy
