// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <limits>
#include <memory>

#include "command.hpp"
#include "flow_line.hpp"
#include "flow_query.hpp"
#include "loaded.hpp"
#include "table.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

struct FlowOptions {
  std::shared_ptr<FlowQuery> query = std::make_shared<FlowQuery>();
  bool follow = false;
  bool summary = false;
  bool live = false;
  bool all = false;
  bool verbose = false;
  unsigned limit = 100;
};

/// One line on a terminal as elsewhere, but wrapped only where lines have a width.
void print_flow(const json& flow, bool wide) {
  fmt::print("{}\n",
             wide ? fit(wide_flow_line(flow), 6)
                  : flow_line(flow, on_terminal() ? terminal_width()
                                                  : std::numeric_limits<std::size_t>::max()));
  std::fflush(stdout);
}

void print_tallies(const std::vector<json>& flows, bool live, bool wide) {
  Table table(
      live ? std::vector<std::string>{"COUNT", "VERDICT", "FROM", "TO", "PORT"}
           : std::vector<std::string>{"COUNT", "LAST", "VERDICT", "FROM", "TO", "PORT", "WHY"});
  table.paint_column(live ? 1 : 2);
  for (const json& flow : flows) {
    std::vector<std::string> row = {std::to_string(flow.value("count", std::uint64_t{0}))};
    if (!live) {
      row.push_back(seconds_text(flow.value("time", "?")));
    }
    const auto [source, destination] =
        wide ? EndTexts{end_text(flow.value("source", json::object())),
                        end_text(flow.value("destination", json::object()))}
             : end_texts(flow);
    row.insert(row.end(), {flow.value("verdict", "?"), source, destination, service_text(flow)});
    if (!live) {
      row.push_back(why_text(flow));
    }
    table.add(std::move(row));
  }
  fmt::print("{}", table.render(terminal_width()));
}

/// Prints grouped flows. If -n left some out, the number is on the last line of the table; with
/// --json, in `left_out` of the last object and on stderr.
void print_grouped(const Globals& globals, const FlowOptions& options, std::vector<json> flows,
                   std::uint64_t left_out) {
  const std::string more = left_out == 0 ? ""
                                         : fmt::format("and {} more {} of {}: -n shows more\n",
                                                       left_out, left_out == 1 ? "kind" : "kinds",
                                                       options.live ? "connection" : "flow");
  if (!globals.json) {
    print_tallies(flows, options.live, options.verbose || globals.wide);
    fmt::print("{}", more);
    return;
  }
  if (left_out > 0 && !flows.empty()) {
    flows.back()["left_out"] = left_out;
  }
  for (const json& flow : flows) {
    print_json(flow);
  }
  fmt::print(stderr, "{}", more);
}

/// There is a line even if there are no flows: an empty table could also be a mistake in a filter.
void report_nothing(const FlowOptions& options, const json& answer) {
  fmt::print(stderr, "no {}flows since {}\n", options.query->is_empty() ? "" : "matching ",
             clock_text(answer.value("since", "the start of triremed")));
}

int run_live(const Globals& globals, const FlowOptions& options, json params) {
  params["limit"] = options.limit;
  const auto answer = ask(globals, control::method::connections, params);
  if (!answer) {
    return report(globals, answer.error());
  }
  if (const auto unread = answer->value("unread_networks", std::uint64_t{0}); unread > 0) {
    fmt::print(stderr, "trirectl: {}\n", unread_text(unread));
  }
  auto found = answer->value("connections", std::vector<json>{});
  if (found.empty() && options.limit > 0) {
    fmt::print(stderr, "no {}open connections of workloads\n",
               options.query->is_empty() ? "" : "matching ");
    return kYes;
  }
  print_grouped(globals, options, std::move(found), answer->value("left_out", std::uint64_t{0}));
  return kYes;
}

int run_summary(const Globals& globals, const FlowOptions& options, json params) {
  std::vector<json> flows;
  params["summary"] = true;
  const auto answer =
      ask(globals, control::method::flows, params, std::chrono::seconds(30), [&](const json& flow) {
        flows.push_back(flow);
        return true;
      });
  if (!answer) {
    return report(globals, answer.error());
  }
  if (flows.empty() && options.limit > 0) {
    report_nothing(options, *answer);
    return kYes;
  }
  print_grouped(globals, options, std::move(flows), answer->value("left_out", std::uint64_t{0}));
  return kYes;
}

/// Prints flows as they arrive. Ends silently when the reader of stdout is gone, and with an error
/// when the connection to the daemon is lost.
int run_list(const Globals& globals, const FlowOptions& options, json params) {
  std::signal(SIGPIPE, SIG_IGN);
  params["follow"] = options.follow;
  bool has_shown = false;
  const auto show = [&](const json& flow) {
    has_shown = true;
    globals.json ? print_json(flow) : print_flow(flow, options.verbose || globals.wide);
    return std::ferror(stdout) == 0;
  };
  const std::chrono::milliseconds timeout =
      options.follow ? std::chrono::milliseconds(0) : std::chrono::seconds(30);
  auto client = control::Client::connect(control::socket_path(globals.runtime_dir));
  if (!client) {
    return report(globals, client.error());
  }
  client->end_with_reader(STDOUT_FILENO);
  const auto answer = client->call(control::method::flows, params, timeout, show);
  if (answer) {
    if (!has_shown && options.limit > 0) {
      report_nothing(options, *answer);
    }
    return kYes;
  }
  if (options.follow && answer.error().message.find("hung up") != std::string::npos) {
    return report(globals,
                  {"connection to triremed lost (stopped, restarted, or this reader was too "
                   "slow)",
                   "check 'trirectl status', then run the command again"});
  }
  return report(globals, answer.error());
}

int run_flows(const Globals& globals, const FlowOptions& options) {
  auto params = flow_params(*options.query);
  if (!params) {
    return report(globals, params.error());
  }
  (*params)["limit"] = options.limit;
  (*params)["all"] = options.all;
  return options.live      ? run_live(globals, options, std::move(*params))
         : options.summary ? run_summary(globals, options, std::move(*params))
                           : run_list(globals, options, std::move(*params));
}

}  // namespace

void add_flows(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "flows", "Show denied, audited, logged and open flows");
  const auto options = std::make_shared<FlowOptions>();
  auto* follow = command->add_flag("-f,--follow", options->follow, "follow new flows");
  auto* summary = command->add_flag("-s,--summary", options->summary,
                                    "group identical flows, most frequent first");
  auto* live =
      command->add_flag("-L,--live", options->live, "open connections, identical ones grouped");
  auto* all = command->add_flag("-a,--all", options->all,
                                "allowed flows too, each kind sampled once a minute");
  all->excludes(live);
  summary->excludes(follow);
  live->excludes(follow)->excludes(summary);
  command->add_flag("-v,--verbose", options->verbose,
                    "show labels, addresses, rules and verdicts in full");
  command->add_option("-n,--limit", options->limit, "at most this many past flows or groups")
      ->capture_default_str();
  command->add_option("--verdict", options->query->verdicts, "only these verdicts")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("VERDICT")
      ->check(one_of({"allow", "deny", "audit"}));
  add_flow_query(*command, options->query);
  command->footer(
      "MATCH is a workload's name ('web*' matches several), a selector with an\n"
      "operator like app=web,env=prod or 'app=*', @host, @world, @NAME of a\n"
      "[[network]], an address or a CIDR. A single word is a workload's name, not the\n"
      "key of a label.\n"
      "Different filters are ANDed; repeated filters are ORed.\n"
      "An allowed flow with --all is a sample: the same endpoints and port are reported\n"
      "at most once a minute, and at most 50 flows a second in a network namespace and\n"
      "of handshakes.\n"
      "Output is one flow per line; with --json, one object per line.");
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return run_flows(globals, *options); };
  });
}

}  // namespace trireme::cli
