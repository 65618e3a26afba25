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

void token_metrics(std::string& text, Daemon& daemon) {
  single(text, "trireme_enforcement_points", "gauge", "Network namespaces in which policy is enforced.", daemon.points());
  single(text, "trireme_peer_identities", "gauge", "Label sets that peers elsewhere have proved.", daemon.tokens().identities().size());
  const verifier::Verifier* verifier = daemon.tokens().verifier();
  const verifier::VerifierStatistics sum = verifier == nullptr ? verifier::VerifierStatistics{} : verifier->statistics();
  single(text, "trireme_verifier_packets_total", "counter", "Packets that the verifier was asked about.", sum.packets);
  single(text, "trireme_verifier_lost_total", "counter", "Packets that did not fit the queues.", sum.lost);
  single(text, "trireme_handshakes", "gauge", "Handshakes remembered.", sum.handshakes);
  single(text, "trireme_handshakes_evicted_total", "counter", "Handshakes given up for newer ones.", sum.evicted);
  single(text, "trireme_hellos_total", "counter", "HELLOs sent, repeated ones included.", sum.hellos);
  single(text, "trireme_replies_total", "counter", "REPLYs sent, repeated ones included.", sum.replies);
  single(text, "trireme_handshakes_authorised_total", "counter", "Flows authorised by proof, at either end.", sum.authorised);
  single(text, "trireme_handshakes_unproved_total", "counter", "Flows allowed to peers that offered no proof.", sum.unproved);
  single(text, "trireme_credential_verifications_total", "counter", "Certificates looked at: public-key work.", sum.verifications);
  single(text, "trireme_proofs_lost_total", "counter", "PROOFs that could not be sent; the server asks again.", sum.proofs_lost);
  single(text, "trireme_handshake_events_lost_total", "counter", "Refusals that were not told: too many at a time.", sum.events_lost);
  head(text, "trireme_handshakes_refused_total", "counter", "Packets of handshakes that were refused or dropped, by reason.");
  for (std::size_t i = 1; i < handshake::kReasons; i++) {
    text += fmt::format("trireme_handshakes_refused_total{{reason=\"{}\"}} {}\n", handshake::text(static_cast<handshake::Reason>(i)),
                        sum.refused.at(i));
  }
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
  single(text, "trireme_flow_log_lost_total", "counter", "Times at which the kernel's log messages did not fit.", daemon.logs_lost());
  single(text, "trireme_flow_log_suppressed_total", "counter", "Flows kept out of the journal by its rate limit.", flows.suppressed());
  token_metrics(text, daemon);
  single(text, "trireme_problems", "gauge", "Problems that 'trirectl status' lists.", daemon.problems().size());
  return text;
}

}  // namespace trireme::daemon
