// SPDX-License-Identifier: Apache-2.0
#include "diff_view.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kMostListed = 3;     // label sets in one cell
constexpr std::size_t kMostLines = 50;     // rows of one table
constexpr std::size_t kMostInJson = 1000;  // label sets of one change with --json

const char* relation_text(policy::AccessMap::Relation relation) {
  switch (relation) {
    case policy::AccessMap::Relation::equal:
    case policy::AccessMap::Relation::alike:
      return "the same labels";
    case policy::AccessMap::Relation::share:
      return "a label in common";
    case policy::AccessMap::Relation::none:
      return "";
  }
  return "";
}

std::string listed(const std::vector<std::string>& texts) {
  std::string text;
  for (std::size_t i = 0; i < std::min(texts.size(), kMostListed); ++i) {
    text += (i == 0 ? "" : " | ") + texts[i];
  }
  return texts.size() > kMostListed
             ? fmt::format("{} and {} more", text, texts.size() - kMostListed)
             : text;
}

std::string ports_or_dash(const std::vector<policy::PortRange>& ranges) {
  return ranges.empty() ? "-" : policy::ports_text(ranges);
}

json capped(std::vector<std::string> texts) {
  texts.resize(std::min(texts.size(), kMostInJson));
  return texts;
}

json seen_end_json(const policy::SeenEnd& end) {
  json result = {{"text", end.text()}};
  if (!end.workload.empty()) {
    result["workload"] = end.workload;
  }
  if (!end.cgroup.empty()) {
    result["cgroup"] = end.cgroup;
  }
  return result;
}

json cuts_json(const policy::Replay& replay) {
  json cuts = json::array();
  for (const policy::Cut& cut : replay.cuts) {
    cuts.push_back({{"from", seen_end_json(cut.flow.from)},
                    {"to", seen_end_json(cut.flow.to)},
                    {"port", policy::port_text(cut.flow.protocol, cut.flow.port)},
                    {"count", cut.flow.count},
                    {"reason", cut.reason},
                    {"identity", cut.identity}});
  }
  return cuts;
}

const char* change_word(const policy::IdentityChange& change) {
  return !change.after                     ? "ends"
         : !change.after->blocked.empty()  ? "quarantined"
         : !change.before                  ? "becomes"
         : !change.before->blocked.empty() ? "released"
                                           : "changes";
}

json identity_json(const policy::IdentityDiff& identity) {
  const auto labels_json = [](const std::optional<policy::Resident>& resident) {
    json object = json::object();
    if (resident) {
      control::put_labels(object, resident->labels);
    }
    return resident ? object : json();
  };
  json changes = json::array();
  for (const policy::IdentityChange& change : identity.changes()) {
    changes.push_back({{"name", change.name()},
                       {"kind", (change.after ? *change.after : *change.before).kind},
                       {"change", change_word(change)},
                       {"before", labels_json(change.before)},
                       {"after", labels_json(change.after)},
                       {"live_flows_cut", change.live_cut},
                       {"text", change.text()}});
  }
  return changes;
}

void print_access(const policy::PolicyDiff& diff) {
  if (diff.access.empty()) {
    return;
  }
  Table table({"FROM", "TO", "GAINS", "LOSES"});
  std::string reasons;
  for (std::size_t i = 0; i < std::min(diff.access.size(), kMostLines); ++i) {
    const auto& change = diff.access[i];
    const std::string only = relation_text(change.only);
    table.add({listed(change.from), only.empty() ? listed(change.to) : "workloads with " + only,
               ports_or_dash(change.gained), ports_or_dash(change.lost)});
    for (const std::string& because : change.because) {
      if (reasons.find(because + "\n") == std::string::npos) {
        reasons += because + "\n";
      }
    }
  }
  fmt::print("{}", table.render(terminal_width()));
  if (diff.access.size() > kMostLines) {
    fmt::print("and {} more {}; --json lists all\n", diff.access.size() - kMostLines,
               diff.access.size() - kMostLines == 1 ? "change" : "changes");
  }
  fmt::print("\n{}", fit(printable_lines(reasons), 5));
}

void print_identity(const policy::IdentityDiff& identity) {
  const auto& changes = identity.changes();
  for (std::size_t i = 0; i < std::min(changes.size(), kMostLines); ++i) {
    const std::string cut =
        changes[i].live_cut == 0
            ? ""
            : fmt::format(" ({} would end)", counted(changes[i].live_cut, "connection"));
    fmt::print("{}\n", fit(printable(changes[i].text() + cut), 2));
  }
  if (changes.size() > kMostLines) {
    fmt::print("and {} more; --json lists all\n", counted(changes.size() - kMostLines, "workload"));
  }
}

std::string seen_end_text(const policy::SeenEnd& end) {
  const std::string unit = end.cgroup.substr(end.cgroup.rfind('/') + 1);
  return unit.empty() ? end.text() : fmt::format("{} ({})", unit, end.text());
}

void print_cuts(const policy::Replay& replay) {
  if (replay.cuts.empty()) {
    return;
  }
  Table table({"COUNT", "FROM", "TO", "PORT", "WHY"});
  for (std::size_t i = 0; i < std::min(replay.cuts.size(), kMostLines); ++i) {
    const policy::Cut& cut = replay.cuts[i];
    table.add({std::to_string(cut.flow.count), seen_end_text(cut.flow.from),
               seen_end_text(cut.flow.to), policy::port_text(cut.flow.protocol, cut.flow.port),
               cut.reason});
  }
  fmt::print("{}", table.render(terminal_width()));
  if (replay.cuts.size() > kMostLines) {
    fmt::print("and {} more {}; --json lists all\n", replay.cuts.size() - kMostLines,
               replay.cuts.size() - kMostLines == 1 ? "kind" : "kinds");
  }
}

/// Prints "1 of 2 open connections would end:" and the cuts.
void print_replay(const policy::Replay& replay, const char* noun, const std::string& outcome) {
  fmt::print("{} of {} {}{}\n", replay.denied, counted(replay.flows, noun), outcome,
             replay.denied == 0 ? "" : ":");
  print_cuts(replay);
}

}  // namespace

json diff_json(const policy::PolicyDiff& diff, const DiffBasis& basis) {
  json access = json::array();
  for (const auto& change : diff.access) {
    access.push_back({{"from", capped(change.from)},
                      {"to", capped(change.to)},
                      {"from_count", change.from.size()},
                      {"to_count", change.to.size()},
                      {"only", relation_text(change.only)},
                      {"gained", change.gained.empty() ? "" : policy::ports_text(change.gained)},
                      {"lost", change.lost.empty() ? "" : policy::ports_text(change.lost)},
                      {"because", change.because}});
  }
  json shown = {{"differs", !diff.empty()},
                {"settings", diff.settings},
                {"access", std::move(access)},
                {"identity", identity_json(diff.identity)},
                {"live_flows", diff.live.flows},
                {"live_flows_cut", diff.live.denied},
                {"cuts", cuts_json(diff.live)},
                {"rules_differ", diff.rules},
                {"live_flows_unknown", basis.unknown},
                {"identity_compared", basis.has_identity},
                {"notes", basis.notes}};
  if (basis.seen_seconds > 0) {
    shown["seen"] = {{"seconds", basis.seen_seconds},
                     {"flows", diff.seen.flows},
                     {"denied", diff.seen.denied},
                     {"cuts", cuts_json(diff.seen)},
                     {"forgotten", basis.forgotten},
                     {"journal", basis.journal_problem.empty() ? "read" : basis.journal_problem}};
  }
  return shown;
}

void print_diff(const policy::PolicyDiff& diff, const DiffBasis& basis) {
  for (const std::string& note : basis.notes) {
    fmt::print(stderr, "{}\n", fit("trirectl: " + printable(note), 4));
  }
  const bool is_quiet = diff.settings.empty() && diff.access.empty() && diff.identity.empty() &&
                        diff.live.denied == 0 && diff.seen.denied == 0;
  if (is_quiet) {
    fmt::print("no change for any current workload{}\n",
               diff.rules == 0   ? ""
               : diff.rules == 1 ? "; 1 rule differs"
                                 : fmt::format("; {} rules differ", diff.rules));
  } else {
    for (const std::string& line : diff.settings) {
      fmt::print("{}\n", fit(printable(line), 2));
    }
    print_identity(diff.identity);
    const bool has_lines = !diff.settings.empty() || !diff.identity.empty();
    fmt::print("{}", has_lines && !diff.access.empty() ? "\n" : "");
    print_access(diff);
    fmt::print("{}", has_lines || !diff.access.empty() ? "\n" : "");
    print_replay(diff.live, "open connection", "would end");
  }
  if (!basis.seen.empty()) {
    fmt::print("{}", is_quiet ? "" : "\n");
    print_replay(diff.seen, "flow", fmt::format("seen in the last {} would be denied", basis.seen));
  }
  if (basis.unknown > 0) {
    fmt::print("{} not compared: the endpoints are not known; see 'trirectl policy suggest'\n",
               basis.unknown == 1 ? "1 audited connection was"
                                  : fmt::format("{} audited connections were", basis.unknown));
  }
}

}  // namespace trireme::cli
