#include <fmt/format.h>

#include "daemon.hpp"

namespace trireme::daemon {
namespace {

void head(std::string& text, const char* name, const char* type, const char* help) {
  text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void single(std::string& text, const char* name, const char* type, const char* help, std::uint64_t value) {
  head(text, name, type, help);
  text += fmt::format("{} {}\n", name, value);
}

}  // namespace

std::string metrics_text(Daemon& daemon) {
  std::string text;
  head(text, "trireme_build_info", "gauge", "Version of the daemon.");
  text += "trireme_build_info{version=\"" TRIREME_VERSION "\"} 1\n";
  head(text, "trireme_workloads", "gauge", "Workloads by state.");
  std::map<std::string, std::uint64_t> states = {{"enforced", 0}, {"quarantined", 0}, {"unenforced", 0}};
  for (const workload::Workload* workload : daemon.registry().all()) {
    states[workload::text(workload->state)]++;
  }
  for (const auto& [state, count] : states) {
    text += fmt::format("trireme_workloads{{state=\"{}\"}} {}\n", state, count);
  }
  const Settings& settings = daemon.settings();
  single(text, "trireme_policy_generation", "gauge", "Generation of the policy in force.", settings.generation());
  single(text, "trireme_policy_rules", "gauge", "Rules of the policy in force.", settings.policy()->rules.size());
  single(text, "trireme_policy_errors", "gauge", "Errors of the last load; above 0 an older generation is in force.",
         settings.errors().size());
  head(text, "trireme_reloads_total", "counter", "Reloads by result.");
  text += fmt::format("trireme_reloads_total{{result=\"applied\"}} {}\n", settings.reloads());
  text += fmt::format("trireme_reloads_total{{result=\"refused\"}} {}\n", settings.failed_reloads());
  single(text, "trireme_revoked_flows_total", "counter", "Live flows that lost their authorisation.", daemon.revoked());
  single(text, "trireme_table_repairs_total", "counter", "Times at which the table had to be written anew: others changed it.",
         daemon.repairs());
  const FlowFeed& flows = daemon.flows();
  head(text, "trireme_flows_total", "counter", "Flows told, by verdict; a refusal that repeats within seconds counts once.");
  for (const char* verdict : {"allow", "audit", "deny"}) {
    const auto found = flows.counts().find(verdict);
    text += fmt::format("trireme_flows_total{{verdict=\"{}\"}} {}\n", verdict, found == flows.counts().end() ? 0 : found->second);
  }
  single(text, "trireme_flow_log_lost_total", "counter", "Times at which the kernel's log messages did not fit.", flows.lost());
  single(text, "trireme_flow_log_suppressed_total", "counter", "Flows kept out of the journal by its rate limit.", flows.suppressed());
  single(text, "trireme_problems", "gauge", "Problems that 'trirectl status' lists.", daemon.problems().size());
  return text;
}

}  // namespace trireme::daemon
