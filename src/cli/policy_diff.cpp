// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "diagnostics.hpp"
#include "loaded.hpp"
#include "policy_diff.hpp"
#include "table.hpp"
#include "trireme/policy/diff.hpp"
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
  return result;
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
  json cuts = json::array();
  for (const auto& cut : diff.cuts) {
    cuts.push_back({{"from", seen_end_json(cut.flow.from)},
                    {"to", seen_end_json(cut.flow.to)},
                    {"port", policy::port_text(cut.flow.protocol, cut.flow.port)},
                    {"count", cut.flow.count},
                    {"reason", cut.reason}});
  }
  return {{"differs", !diff.empty()},        {"settings", diff.settings},
          {"access", std::move(access)},     {"live_flows", diff.live},
          {"live_flows_cut", diff.live_cut}, {"cuts", std::move(cuts)},
          {"rules_differ", diff.rules}};
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
  fmt::print("\n{}", fit(reasons, 5));
}

void print_cuts(const policy::PolicyDiff& diff) {
  fmt::print("{}{} of {} open {} would end{}\n",
             diff.access.empty() && diff.settings.empty() ? "" : "\n", diff.live_cut, diff.live,
             diff.live == 1 ? "connection" : "connections", diff.live_cut == 0 ? "" : ":");
  if (diff.cuts.empty()) {
    return;
  }
  Table table({"COUNT", "FROM", "TO", "PORT", "WHY"});
  for (std::size_t i = 0; i < std::min(diff.cuts.size(), kMostLines); ++i) {
    const auto& cut = diff.cuts[i];
    table.add({std::to_string(cut.flow.count), cut.flow.from.text(), cut.flow.to.text(),
               policy::port_text(cut.flow.protocol, cut.flow.port), cut.reason});
  }
  fmt::print("{}", table.render(terminal_width()));
  if (diff.cuts.size() > kMostLines) {
    fmt::print("and {} more {}; --json lists all\n", diff.cuts.size() - kMostLines,
               diff.cuts.size() - kMostLines == 1 ? "kind" : "kinds");
  }
}

/// Warns of unreadable files of [trust]: the comparison does not need them, but the daemon would
/// reject the directory without them.
void print_key_warnings(const config::Configuration& configuration) {
  for (const auto& diagnostic : configuration.diagnostics) {
    if (std::ranges::any_of(configuration.trust_files, [&](const config::TrustFile& file) {
          return file.where.text() == diagnostic.where.text();
        })) {
      fmt::print(stderr, "{}\n", diagnostic.text());
    }
  }
}

void print_diff(const policy::PolicyDiff& diff, std::uint64_t unknown) {
  for (const std::string& line : diff.settings) {
    fmt::print("{}\n", line);
  }
  if (!diff.settings.empty() && !diff.access.empty()) {
    fmt::print("\n");
  }
  print_access(diff);
  print_cuts(diff);
  if (unknown > 0) {
    fmt::print(
        "{} audited {} not compared: the endpoints are no longer known; see 'trirectl policy "
        "suggest'\n",
        unknown, unknown == 1 ? "connection was" : "connections were");
  }
}

int run_diff(const Globals& globals, const std::string& directory) {
  const auto configuration = config::load(directory, config::KeyFiles::optional);
  if (!configuration.valid()) {
    if (globals.json) {
      print_json({{"error", {{"message", directory + " is invalid"}, {"hint", ""}}},
                  {"diagnostics", to_json(configuration.diagnostics)}});
    }
    for (const auto& diagnostic : configuration.diagnostics) {
      fmt::print(stderr, "{}\n", diagnostic.text());
    }
    fmt::print(stderr, "trirectl: {} is invalid: not compared\n", directory);
    return kNo;
  }
  print_key_warnings(configuration);
  return show_diff(globals, configuration) == Compared::same ? kYes : kNo;
}

}  // namespace

Compared show_diff(const Globals& globals, const config::Configuration& configuration) {
  const auto policy = loaded_policy(globals);
  if (!policy) {
    report(globals, policy.error());
    return Compared::failed;
  }
  auto present = present_parties(globals);
  std::uint64_t unknown = 0;
  const auto live = live_flows(globals, &unknown);
  if (!present || !live) {
    report(globals, present ? live.error() : present.error());
    return Compared::failed;
  }
  const auto diff = policy::diff(*policy, configuration.policy, std::move(*present), *live);
  if (globals.json) {
    json shown = diff_json(diff);
    shown["live_flows_unknown"] = unknown;
    print_json(shown);
    return diff.empty() ? Compared::same : Compared::differs;
  }
  if (diff.empty()) {
    fmt::print("no change for any current workload\n");
    return Compared::same;
  }
  if (diff.settings.empty() && diff.access.empty() && diff.live_cut == 0) {
    fmt::print("no change for any current workload; {}\n",
               diff.rules == 1 ? "1 rule differs" : fmt::format("{} rules differ", diff.rules));
    return Compared::differs;
  }
  print_diff(diff, unknown);
  return Compared::differs;
}

void add_policy_diff(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "diff", "Show what a directory would change if it were applied");
  const auto directory = std::make_shared<std::string>();
  command->add_option("DIR", *directory, "directory to compare (default: the daemon's)");
  command->footer(
      "Compares the policy in force with a directory: which current workloads gain or\n"
      "lose access, to what, on which ports, and which open connections would end.\n"
      "Exit code 0: no change; 1: something changes, or the comparison failed.");
  command->callback([&globals, &action, directory] {
    action = [&globals, directory] {
      return run_diff(globals, directory->empty() ? configuration_dir(globals) : *directory);
    };
  });
}

}  // namespace trireme::cli
