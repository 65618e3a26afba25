// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "diagnostics.hpp"
#include "diff_view.hpp"
#include "identity_view.hpp"
#include "journal_flows.hpp"
#include "loaded.hpp"
#include "policy_diff.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/policy/diff.hpp"
#include "trireme/policy/expiry.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

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
  std::string problem;          // why the journal was not read; empty if it was
  std::uint64_t left_out = 0;   // flows in the journal that were not compared
  bool is_partial = false;      // a part of the time is before the daemon's start
  std::uint64_t forgotten = 0;  // as in RecentFlows
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
  Seen seen{.flows = std::move(recent->flows),
            .problem = {},
            .left_out = 0,
            .is_partial = false,
            .forgotten = recent->forgotten};
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
  DiffBasis basis{.has_identity = !configuration.identity_sources.empty(),
                  .notes = {},
                  .unknown = live->unknown,
                  .seen = options.seen,
                  .seen_seconds = span,
                  .journal_problem = {},
                  .forgotten = 0};
  if (live->unread_networks > 0) {
    basis.notes.push_back(unread_text(live->unread_networks));
  } else if (!live->complete) {
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
    basis.forgotten = seen->forgotten;
    if (seen->forgotten > 0) {
      basis.notes.push_back(forgotten_text(seen->forgotten));
    }
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
  if (globals.json) {
    print_json(diff_json(diff, basis));
  } else {
    print_diff(diff, basis);
  }
  return outcome;
}

int run_diff(const Globals& globals, const DiffOptions& options) {
  const std::string directory =
      options.directory.empty() ? configuration_dir(globals) : options.directory;
  const auto configuration = config::load(directory, config::KeyFiles::optional);
  if (!configuration.valid()) {
    report_invalid(globals, directory, configuration.diagnostics, "not compared");
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
