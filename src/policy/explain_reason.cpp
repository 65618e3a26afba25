// SPDX-License-Identifier: Apache-2.0
// Why a flow is allowed or denied, in a sentence.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "explain_question.hpp"

namespace trireme::policy {
namespace {

/// Label keys whose values differ, to explain why the baseline does not allow a flow.
std::vector<std::string> differing_keys(const LabelSet& a, const LabelSet& b) {
  std::vector<std::string> keys;
  const auto collect = [&](const LabelSet& left, const LabelSet& right) {
    for (const auto& [key, value] : left.items()) {
      const std::string* other = right.find(key);
      if ((other == nullptr || *other != value) &&
          std::find(keys.begin(), keys.end(), key) == keys.end()) {
        keys.push_back(key);
      }
    }
  };
  collect(a, b);
  collect(b, a);
  return keys;
}

std::string refusal_text(const Question& q) {
  std::string reason = sentence(Reason::no_rule);
  if (q.from.kind != Endpoint::Kind::workload || q.to.kind != Endpoint::Kind::workload) {
    return reason + ", and the baseline applies only between two workloads";
  }
  if (q.policy.baseline == Baseline::none) {
    return reason + ", and there is no baseline";
  }
  if (!q.from.labels.has_own() || !q.to.labels.has_own()) {
    return reason +
           (q.from.labels.host_keys().empty() && q.to.labels.host_keys().empty()
                ? ", and the baseline does not apply to workloads without labels"
                : ", and the baseline does not apply to workloads without labels of their own: "
                  "[host] labels do not count");
  }
  const auto keys = differing_keys(q.from.labels, q.to.labels);
  if (keys.empty()) {
    return fmt::format("{}, and the baseline {} does not: [host] labels do not count", reason,
                       text(q.policy.baseline));
  }
  return fmt::format("{}, and the baseline {} does not: the labels differ in {}", reason,
                     text(q.policy.baseline), fmt::join(keys, ", "));
}

}  // namespace

std::string reason_text(const Question& q, const Decision& decision) {
  std::string reason;
  switch (decision.reason) {
    case Reason::no_rule:
      reason = refusal_text(q);
      break;
    case Reason::baseline:
      reason = fmt::format("the baseline {} allows it", text(q.policy.baseline));
      break;
    default:
      reason = sentence(decision.reason);
      if (decision.rule != nullptr) {
        reason += ": " + decision.rule->text();
      }
  }
  const bool refused = decision.reason == Reason::deny_rule || decision.reason == Reason::no_rule ||
                       decision.reason == Reason::audited_allow;
  if (refused && decision.verdict == Verdict::audit) {
    reason += "; mode = \"audit\" in [defaults] lets it pass";
  }
  return reason;
}

const char* text(Baseline baseline) {
  switch (baseline) {
    case Baseline::same_labels:
      return "same-labels";
    case Baseline::any_common_label:
      return "any-common-label";
    case Baseline::none:
      return "none";
  }
  return "none";
}

const char* sentence(Reason reason) {
  switch (reason) {
    case Reason::unprotected:
      return "neither end is a workload";
    case Reason::self:
      return "a workload reaches itself";
    case Reason::deny_rule:
      return "a rule denies it";
    case Reason::audited_deny:
      return "only a rule in audit mode denies it";
    case Reason::allow_rule:
      return "a rule allows it";
    case Reason::baseline:
      return "the baseline allows it";
    case Reason::audited_allow:
      return "only a rule in audit mode would allow it";
    case Reason::no_rule:
      return "no rule allows it";
  }
  return "unknown";
}

}  // namespace trireme::policy
