// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/explain.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "explain_question.hpp"

#include "trireme/policy/expiry.hpp"

namespace trireme::policy {
namespace {

using Where = WorldEnd::Where;

constexpr std::size_t kListedParts = 3;  // listed for each decision
constexpr const char* kNoWorkload = "not a workload on this host; only the other end decides";

const char* verdict_text(const Decision& decision) {
  return decision.verdict == Verdict::deny    ? "denied"
         : decision.verdict == Verdict::audit ? "allowed (audit mode)"
                                              : "allowed";
}

/// "x.scope (app=web)", "@host", "172.17.0.2, which is web (app=web)", "@host at 172.17.0.1
/// (@world)"
std::string describe(const Policy& policy, const World& world, const ExplainEnd& part,
                     const View& view) {
  if (view.kind == Endpoint::Kind::workload) {
    const std::string labels = view.labels.empty() ? "no labels" : view.labels.text();
    const std::string name =
        part.end.resident ? world.residents.at(*part.end.resident).name : std::string();
    if (name.empty()) {
      return part.text;
    }
    return part.text == name ? fmt::format("{} ({})", name, labels)
                             : fmt::format("{}, which is {} ({})", part.text, name, labels);
  }
  if (part.end.may_have_labels) {
    return fmt::format("{} (in [host] peers)", part.text);
  }
  const bool is_entity = part.text == "@host" || part.text == "@world";
  const std::string entity = view.kind == Endpoint::Kind::host ? "@host" : "@world";
  std::string networks;
  for (const std::size_t network : view.networks(policy)) {
    networks += ", @" + policy.networks[network].name;
  }
  if (is_entity && part.text == entity && networks.empty()) {
    return entity;
  }
  const std::string address = view.address ? view.address->text() : "";
  const bool is_its_own_text = part.text.find(address) != std::string::npos;
  const bool is_named = part.text.starts_with('@') && (!is_entity || part.text == entity);
  const std::string where = address.empty() || is_its_own_text ? part.text
                            : is_named                         ? address
                                                               : part.text + " at " + address;
  return fmt::format("{} ({}{})", where, entity, networks);
}

/// What rules say, with the endpoints as the end that decides takes them.
Question question_of(const Policy& policy, const World& world, const ExplainEnd& from,
                     const ExplainEnd& to, const Ruling& ruling, std::uint8_t protocol,
                     std::uint16_t port) {
  return {.policy = policy,
          .from = ruling.from,
          .to = ruling.to,
          .from_text = describe(policy, world, from, ruling.from),
          .to_text = describe(policy, world, to, ruling.to),
          .protocol = protocol,
          .port = port};
}

/// Why it is not known what happens to a flow with this endpoint.
std::string unknown_text(const ExplainEnd& end, const char* option) {
  return fmt::format(
      "{} is in [host] peers: the labels of a workload there are not known here; ask for {} "
      "app=...",
      end.end.address ? end.end.address->text() : end.text, option);
}

/// Combinations of parts with the same decision, for the same reason.
struct Answer {
  Ruling ruling;
  const ExplainEnd* from = nullptr;
  const ExplainEnd* to = nullptr;
  std::string reason;
  std::vector<std::pair<std::string, std::string>> ends;  // at most kListedParts, described
  std::size_t count = 0;

  [[nodiscard]] bool is_like(const Ruling& other) const {
    return ruling.is_known == other.is_known && ruling.aside == other.aside &&
           ruling.decision.verdict == other.decision.verdict &&
           ruling.decision.reason == other.decision.reason &&
           ruling.decision.rule == other.decision.rule;
  }
  /// Unknown above denied above audited above allowed.
  [[nodiscard]] int rank() const {
    return !ruling.is_known                            ? 3
           : ruling.decision.verdict == Verdict::deny  ? 2
           : ruling.decision.verdict == Verdict::audit ? 1
                                                       : 0;
  }
};

class Explainer {
 public:
  Explainer(const Policy& policy, const World& world, std::uint8_t protocol, std::uint16_t port)
      : policy_(policy), world_(world), judge_(policy, world), protocol_(protocol), port_(port) {}

  void ask(const ExplainEnd& from, const ExplainEnd& to) {
    for (Ruling& ruling : judge_.decide(from.end, to.end, protocol_, port_)) {
      const Question q = question_of(policy_, world_, from, to, ruling, protocol_, port_);
      from_texts_.insert(q.from_text);
      to_texts_.insert(q.to_text);
      auto known = std::ranges::find_if(
          answers_, [&](const Answer& answer) { return answer.is_like(ruling); });
      if (known == answers_.end()) {
        known = answers_.insert(
            answers_.end(),
            Answer{
                .ruling = std::move(ruling), .from = &from, .to = &to, .reason = {}, .ends = {}});
        known->reason = reason_of(q, *known);
      }
      if (known->count++ < kListedParts) {
        known->ends.emplace_back(q.from_text, q.to_text);
      }
    }
  }

  [[nodiscard]] bool may_be_judged(const ExplainEnd& part) const {
    return part.end.may_have_labels || judge_.is_workload(part.end);
  }

  [[nodiscard]] Explanation explanation() {
    const auto worst = std::ranges::max_element(answers_, {}, &Answer::rank);
    Explanation result = of(*worst);
    for (auto answer = answers_.begin(); answer != answers_.end(); ++answer) {
      if (answer != worst) {
        result.others.push_back(other(*answer));
      }
    }
    return result;
  }

 private:
  [[nodiscard]] static std::string reason_of(const Question& q, const Answer& answer) {
    if (!answer.ruling.aside.empty()) {
      return answer.ruling.aside;
    }
    if (!answer.ruling.is_known) {
      return answer.from->end.may_have_labels ? unknown_text(*answer.from, "--from")
                                              : unknown_text(*answer.to, "--to");
    }
    return reason_text(q, answer.ruling.decision);
  }

  [[nodiscard]] OtherParts other(const Answer& answer) const {
    OtherParts parts{.decision = answer.ruling.decision,
                     .reason = answer.reason,
                     .ends = {},
                     .count = answer.count};
    for (const auto& [from, to] : answer.ends) {
      parts.ends.push_back(from_texts_.size() == 1 ? to
                           : to_texts_.size() == 1 ? from
                                                   : from + " -> " + to);
    }
    return parts;
  }

  [[nodiscard]] Explanation of(const Answer& answer) const {
    const Ruling& ruling = answer.ruling;
    const Question q =
        question_of(policy_, world_, *answer.from, *answer.to, ruling, protocol_, port_);
    Explanation result;
    result.decision = ruling.decision;
    result.is_known = ruling.is_known;
    result.from = q.from_text;
    result.to = q.to_text;
    result.port = port_text(protocol_, port_);
    result.reason = answer.reason;
    result.source = end_decision(ruling, *answer.from, Ruling::End::source);
    result.destination = end_decision(ruling, *answer.to, Ruling::End::destination);
    result.notes = notes(answer);
    if (!ruling.is_known || !ruling.aside.empty()) {
      return result;
    }
    if (ruling.decision.reason == Reason::no_rule ||
        ruling.decision.reason == Reason::audited_allow) {
      result.closest = closest_rules(q);
      result.toml = toml_of(answer);
    }
    for (const Rule& rule : policy_.rules) {
      if (rule.mode == Mode::audit && applies(q, rule)) {
        result.audited.push_back(&rule);
      }
    }
    return result;
  }

  [[nodiscard]] EndDecision end_decision(const Ruling& ruling, const ExplainEnd& part,
                                         Ruling::End end) const {
    if (part.end.may_have_labels) {
      return {false, "its labels are not known here"};
    }
    if (!judge_.is_workload(part.end)) {
      return {false, kNoWorkload};
    }
    if (!ruling.is_known) {
      return {true, "depends on the labels of the other end"};
    }
    const auto& own = end == Ruling::End::source ? ruling.source : ruling.destination;
    const bool passes = ruling.decision.verdict != Verdict::deny;
    if (!ruling.aside.empty()) {
      return {true, ruling.by == end
                        ? fmt::format("{}: {}", passes ? "allows" : "denies", ruling.aside)
                        : fmt::format("the other end {} it", passes ? "allows" : "denies")};
    }
    const Decision& decision = own ? *own : ruling.decision;
    const char* word = decision.verdict == Verdict::deny    ? "denies"
                       : decision.verdict == Verdict::audit ? "allows (audit mode)"
                                                            : "allows";
    return {true, fmt::format("{}: {}", word,
                              decision.rule != nullptr ? decision.rule->text()
                                                       : sentence(decision.reason))};
  }

  /// Egress, and a process of this host that is @world to a workload: an address can be allowed.
  /// Who else comes in is for the operator to decide.
  [[nodiscard]] std::string toml_of(const Answer& answer) const {
    const bool is_egress = answer.ruling.by == Ruling::End::source;
    const ExplainEnd& other = is_egress ? *answer.to : *answer.from;
    if (!is_egress && other.end.where != Where::network) {
      return {};
    }
    return allowing_toml(policy_, answer.ruling.from, answer.ruling.to,
                         other.end.names.empty() ? std::string() : other.end.names.front(),
                         protocol_, port_);
  }

  [[nodiscard]] std::vector<std::string> notes(const Answer& answer) const {
    std::vector<std::string> notes;
    for (const ExplainEnd* part : {answer.from, answer.to}) {
      if (!part->note.empty() && std::ranges::find(notes, part->note) == notes.end()) {
        notes.push_back(part->note);
      }
    }
    const WorldEnd from = WorldJudge::placed(answer.from->end, answer.to->end);
    const WorldEnd to = WorldJudge::placed(answer.to->end, answer.from->end);
    const bool is_egress = answer.ruling.by == Ruling::End::source;
    const WorldEnd& viewer = is_egress ? from : to;
    const WorldEnd& other = is_egress ? to : from;
    const View& view = is_egress ? answer.ruling.to : answer.ruling.from;
    const bool is_of_this_host = answer.ruling.by != Ruling::End::none &&
                                 other.where == Where::network && !judge_.is_workload(other);
    if (is_of_this_host && view.kind == Endpoint::Kind::world) {
      notes.push_back(fmt::format(
          "{}: there, a process of {} without labels is @world{}",
          viewer.where == Where::network ? fmt::format("the other end is in the network of {}",
                                                       world_.networks.at(viewer.network).name)
                                         : std::string("the other end is on another host"),
          other.network == 0 ? "this host"
                             : "the network of " + world_.networks.at(other.network).name,
          view.address ? "" : ", with an address that is not known here"));
    }
    return notes;
  }

  const Policy& policy_;
  const World& world_;
  WorldJudge judge_;
  std::uint8_t protocol_;
  std::uint16_t port_;
  std::vector<Answer> answers_;
  std::set<std::string> from_texts_;
  std::set<std::string> to_texts_;
};

}  // namespace

Explanation explain(const Policy& policy, const World& world, const std::vector<ExplainEnd>& from,
                    const std::vector<ExplainEnd>& to, std::uint8_t protocol, std::uint16_t port) {
  Explainer explainer(policy, world, protocol, port);
  const auto may_be_judged = [&](const ExplainEnd& part) { return explainer.may_be_judged(part); };
  if (std::ranges::none_of(from, may_be_judged) && std::ranges::none_of(to, may_be_judged)) {
    explainer.ask(from.front(), to.front());  // no policy applies, so parts make no difference
    return explainer.explanation();
  }
  for (const ExplainEnd& source : from) {
    for (const ExplainEnd& destination : to) {
      explainer.ask(source, destination);
    }
  }
  Explanation result = explainer.explanation();
  for (const auto* parts : {&from, &to}) {
    if (const std::size_t left_out = parts->front().left_out; left_out > 0) {
      result.notes.push_back(fmt::format("only {} of {} parts of {} were checked", parts->size(),
                                         parts->size() + left_out, parts->front().text));
    } else if (parts->size() == kMostParts) {
      result.notes.push_back(
          fmt::format("only {} parts of {} were checked", kMostParts, parts->front().text));
    }
  }
  return result;
}

std::string Explanation::render() const {
  std::string out = fmt::format("{} -> {} {}: {}\n", from, to, port,
                                is_known ? verdict_text(decision) : "not known");
  out += fmt::format("  why:          {}\n", reason);
  if (decision.rule != nullptr && decision.rule->until) {
    out += fmt::format("  until:        {}, when this rule expires\n",
                       policy::text(*decision.rule->until));
  }
  out += fmt::format("  source:       {}\n", source.text);
  out += fmt::format("  destination:  {}\n", destination.text);
  for (const std::string& note : notes) {
    out += fmt::format("  note:         {}\n", note);
  }
  for (const OtherParts& other : others) {
    const std::string more =
        other.count > other.ends.size()
            ? fmt::format(" and {} more {}", other.count - other.ends.size(),
                          other.count - other.ends.size() == 1 ? "part" : "parts")
            : "";
    out += fmt::format("  other part:   {} at {}{}: {}\n", verdict_text(other.decision),
                       fmt::join(other.ends, ", "), more, other.reason);
  }
  for (const NearMiss& miss : closest) {
    out += fmt::format("  closest rule: {}\n", miss.rule->text());
    for (const std::string& difference : miss.differences) {
      out += fmt::format("                {}\n", difference);
    }
  }
  for (const Rule* rule : audited) {
    out += fmt::format("  audit mode:   {}\n", rule->text());
  }
  return out;
}

}  // namespace trireme::policy
