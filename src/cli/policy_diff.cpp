// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "diagnostics.hpp"
#include "flow_query.hpp"
#include "identity_view.hpp"
#include "journal_flows.hpp"
#include "loaded.hpp"
#include "policy_diff.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/policy/diff.hpp"
#include "trireme/policy/expiry.hpp"
#include "trireme/policy/explain.hpp"
#include "values.hpp"

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

json diff_json(const policy::PolicyDiff& diff) {
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
  return {{"differs", !diff.empty()},      {"settings", diff.settings},
          {"access", std::move(access)},   {"identity", identity_json(diff.identity)},
          {"live_flows", diff.live.flows}, {"live_flows_cut", diff.live.denied},
          {"cuts", cuts_json(diff.live)},  {"rules_differ", diff.rules}};
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

std::string end_text(const policy::SeenEnd& end) {
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
    table.add({std::to_string(cut.flow.count), end_text(cut.flow.from), end_text(cut.flow.to),
               policy::port_text(cut.flow.protocol, cut.flow.port), cut.reason});
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

/// Warns of unreadable files of [trust]: the comparison does not need them, but the daemon would
/// reject the directory without them.
void print_key_warnings(const config::Configuration& configuration) {
  for (const auto& diagnostic : configuration.diagnostics) {
    if (std::ranges::any_of(configuration.trust_files, [&](const config::TrustFile& file) {
          return file.where.text() == diagnostic.where.text();
        })) {
      fmt::print(stderr, "{}\n", printable(diagnostic.text()));
    }
  }
}

/// The flows of --seen: those in the daemon's memory, samples of allowed ones included, and in the
/// journal from before its start.
struct Seen {
  std::vector<policy::SeenFlow> flows;
  std::string problem;         // why the journal was not read; empty if it was
  std::uint64_t left_out = 0;  // flows in the journal that were not compared
  bool is_partial = false;     // a part of the time is before the daemon's start
};

Result<Seen> seen_flows(const Globals& globals, std::uint64_t seconds) {
  const auto status = ask(globals, control::method::status, json::object());
  if (!status) {
    return tl::unexpected(status.error());
  }
  auto recent = recent_flows(globals, {{"since", seconds}, {"all", true}});
  if (!recent) {
    return tl::unexpected(recent.error());
  }
  Seen seen{.flows = std::move(*recent), .problem = {}, .left_out = 0, .is_partial = false};
  const std::chrono::seconds uptime(status->value("uptime_seconds", std::uint64_t{0}));
  if (uptime >= std::chrono::seconds(seconds)) {
    return seen;
  }
  seen.is_partial = true;
  const auto now = std::chrono::system_clock::now();
  auto logged = journal_flows(now - std::chrono::seconds(seconds), now - uptime);
  if (logged) {
    std::ranges::move(logged->flows, std::back_inserter(seen.flows));
    seen.left_out = logged->left_out;
  } else {
    seen.problem = logged.error().text();
  }
  return seen;
}

struct DiffOptions {
  std::string directory;
  std::string seen;  // time span; empty: not asked for
};

/// What a diff is based on, besides its result.
struct Basis {
  bool has_identity = false;
  std::vector<std::string> notes;
  std::uint64_t unknown = 0;
  std::string journal_problem;
};

void print_text(const policy::PolicyDiff& diff, const DiffOptions& options, const Basis& basis) {
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
  if (!options.seen.empty()) {
    fmt::print("{}", is_quiet ? "" : "\n");
    print_replay(diff.seen, "flow",
                 fmt::format("seen in the last {} would be denied", options.seen));
  }
  if (basis.unknown > 0) {
    fmt::print("{} not compared: the endpoints are not known; see 'trirectl policy suggest'\n",
               basis.unknown == 1 ? "1 audited connection was"
                                  : fmt::format("{} audited connections were", basis.unknown));
  }
}

/// Prints the comparison, or reports why there is none.
Compared compare(const Globals& globals, const config::Configuration& configuration,
                 const std::string& directory, const DiffOptions& options) {
  const auto failed = [&globals](const Error& error) {
    report(globals, error);
    return Compared::failed;
  };
  std::uint64_t span = 0;
  if (!options.seen.empty()) {
    const auto seconds = parse_time_span(options.seen);
    if (!seconds) {
      return failed(seconds.error());
    }
    span = static_cast<std::uint64_t>(seconds->count());
  }
  auto loaded = loaded_configuration(globals);
  auto present = loaded ? present_parties(globals) : tl::unexpected(loaded.error());
  auto live = present ? live_flows(globals, Live::processes) : tl::unexpected(present.error());
  if (!live) {
    return failed(live.error());
  }
  policy::DiffInput input{.present = std::move(*present), .live = std::move(live->flows)};
  Basis basis{.has_identity = !configuration.identity_sources.empty(),
              .notes = {},
              .unknown = live->unknown,
              .journal_problem = {}};
  if (!live->complete) {
    basis.notes.emplace_back(
        "not all open connections were compared: there are more than 100,000 kinds");
  }
  if (basis.has_identity) {
    config::name_host(loaded->host);
    auto identity = compare_identity(globals, loaded->host, configuration.host, directory);
    if (!identity) {
      return failed(identity.error());
    }
    input.identity = std::move(identity->diff);
    input.settings = std::move(identity->settings);
    std::ranges::move(identity->notes, std::back_inserter(basis.notes));
  } else {
    basis.notes.push_back(directory + " has no identity.toml: identity was not compared");
  }
  if (span > 0) {
    auto seen = seen_flows(globals, span);
    if (!seen) {
      return failed(seen.error());
    }
    input.seen = std::move(seen->flows);
    basis.journal_problem = seen->problem;
    if (seen->left_out > 0) {
      basis.notes.push_back(
          fmt::format("{} of the journal not compared: there are more than 100,000 kinds",
                      counted(seen->left_out, "flow")));
    }
    if (!seen->problem.empty()) {
      basis.notes.push_back("flows from before the daemon's start were not compared: " +
                            seen->problem);
    } else if (seen->is_partial) {
      basis.notes.emplace_back(
          "allowed flows from before the daemon's start are not known, and were not compared");
    }
  }
  const auto now = policy::now();
  const auto diff = policy::diff(policy::in_force(loaded->policy, now),
                                 policy::in_force(configuration.policy, now), std::move(input));
  const Compared outcome = diff.empty() ? Compared::same : Compared::differs;
  if (!globals.json) {
    print_text(diff, options, basis);
    return outcome;
  }
  json shown = diff_json(diff);
  shown["live_flows_unknown"] = basis.unknown;
  shown["identity_compared"] = basis.has_identity;
  shown["notes"] = basis.notes;
  if (span > 0) {
    shown["seen"] = {{"seconds", span},
                     {"flows", diff.seen.flows},
                     {"denied", diff.seen.denied},
                     {"cuts", cuts_json(diff.seen)},
                     {"journal", basis.journal_problem.empty() ? "read" : basis.journal_problem}};
  }
  print_json(shown);
  return outcome;
}

int run_diff(const Globals& globals, const DiffOptions& options) {
  const std::string directory =
      options.directory.empty() ? configuration_dir(globals) : options.directory;
  const auto configuration = config::load(directory, config::KeyFiles::optional);
  if (!configuration.valid()) {
    if (globals.json) {
      print_json({{"error", {{"message", directory + " is invalid"}, {"hint", ""}}},
                  {"diagnostics", to_json(configuration.diagnostics)}});
    }
    for (const auto& diagnostic : configuration.diagnostics) {
      fmt::print(stderr, "{}\n", printable(diagnostic.text()));
    }
    fmt::print(stderr, "trirectl: {} is invalid: not compared\n", printable(directory));
    return kNo;
  }
  print_key_warnings(configuration);
  return compare(globals, configuration, directory, options) == Compared::same ? kYes : kNo;
}

}  // namespace

Compared show_diff(const Globals& globals, const config::Configuration& configuration,
                   const std::string& directory) {
  return compare(globals, configuration, directory, {});
}

void add_policy_diff(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "diff", "Show what a directory would change if it were applied");
  const auto options = std::make_shared<DiffOptions>();
  command->add_option("DIR", options->directory, "directory to compare (default: the daemon's)");
  command->add_option("--seen", options->seen, "also replay flows of the last 90s, 15m, 2h or 7d")
      ->type_name("TIME")
      ->check(time_span());
  command->footer(
      "Compares the configuration in force with a directory: who becomes a workload,\n"
      "stops being one or gets other labels, which workloads gain or lose access, to\n"
      "what, on which ports, and which open connections would end. Identity is\n"
      "compared if DIR has an identity.toml or identity.d. --seen also lists the flows\n"
      "that were seen and would be denied.\n"
      "Exit code 0: no change; 1: something changes, or the comparison failed.");
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return run_diff(globals, *options); };
  });
}

}  // namespace trireme::cli
