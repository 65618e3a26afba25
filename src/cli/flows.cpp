// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>

#include "command.hpp"
#include "flow_line.hpp"
#include "flow_query.hpp"
#include "table.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"

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

void print_flow(const json& flow, bool verbose) {
  const std::string line =
      verbose || !on_terminal() ? full_flow_line(flow) : flow_line(flow, terminal_width());
  fmt::print("{}\n", verbose ? fit(line, 6) : line);
  std::fflush(stdout);
}

void print_tallies(const std::vector<json>& flows, bool live) {
  Table table(
      live ? std::vector<std::string>{"COUNT", "VERDICT", "FROM", "TO", "PORT"}
           : std::vector<std::string>{"COUNT", "LAST", "VERDICT", "FROM", "TO", "PORT", "WHY"});
  table.paint_column(live ? 1 : 2);
  for (const json& flow : flows) {
    std::vector<std::string> row = {std::to_string(flow.value("count", std::uint64_t{0}))};
    if (!live) {
      const std::string last = clock_text(flow.value("time", "?"));
      row.push_back(last.substr(0, last.find('.')));
    }
    row.insert(row.end(),
               {flow.value("verdict", "?"), end_text(flow.value("source", json::object()), false),
                end_text(flow.value("destination", json::object()), false), service_text(flow)});
    if (!live) {
      row.push_back(why_text(flow));
    }
    table.add(std::move(row));
  }
  fmt::print("{}", table.render(terminal_width()));
}

/// Prints grouped flows. If -n left some out, the number is on the last line of the table; with
/// --json, in `left_out` of the last object and on stderr.
void print_grouped(const Globals& globals, std::vector<json> flows, bool live,
                   std::uint64_t left_out) {
  const std::string more =
      left_out == 0 ? ""
                    : fmt::format("and {} more {} of {}: -n shows more\n", left_out,
                                  left_out == 1 ? "kind" : "kinds", live ? "connection" : "flow");
  if (!globals.json) {
    print_tallies(flows, live);
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

int run_live(const Globals& globals, const FlowOptions& options, json params) {
  params["limit"] = options.limit;
  const auto answer = ask(globals, control::method::connections, params);
  if (!answer) {
    return report(globals, answer.error());
  }
  print_grouped(globals, answer->value("connections", std::vector<json>{}), true,
                answer->value("left_out", std::uint64_t{0}));
  return kYes;
}

int run_summary(const Globals& globals, json params) {
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
  print_grouped(globals, std::move(flows), false, answer->value("left_out", std::uint64_t{0}));
  return kYes;
}

/// Prints flows as they arrive. Ends silently when the reader of stdout is gone, and with an error
/// when the connection to the daemon is lost.
int run_list(const Globals& globals, const FlowOptions& options, json params) {
  std::signal(SIGPIPE, SIG_IGN);
  params["follow"] = options.follow;
  const auto show = [&](const json& flow) {
    globals.json ? print_json(flow) : print_flow(flow, options.verbose);
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
         : options.summary ? run_summary(globals, std::move(*params))
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
  command->add_flag("-v,--verbose", options->verbose, "show addresses, rules and reasons in full");
  command->add_option("-n,--limit", options->limit, "at most this many past flows or groups")
      ->capture_default_str();
  command
      ->add_option("--verdict", options->query->verdicts, "only these verdicts: allow, deny, audit")
      ->allow_extra_args(false)
      ->delimiter(',');
  add_flow_query(*command, options->query);
  command->footer(
      "An endpoint is a workload's name ('web*' matches several), a selector like\n"
      "app=web,env=prod, @host, @world, @NAME of a [[network]], an address or a CIDR.\n"
      "Different filters are ANDed; repeated filters are ORed.\n"
      "An allowed flow with --all is a sample: the same endpoints and port are reported at\n"
      "most once a minute, and at most 50 flows a second in a network namespace.\n"
      "Output is one flow per line; with --json, one object per line.");
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return run_flows(globals, *options); };
  });
}

}  // namespace trireme::cli
