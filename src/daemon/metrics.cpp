// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>

#include "daemon.hpp"
#include "exposition.hpp"
#include "trireme/base/file.hpp"
#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {
namespace {

using handshake::Reason;

std::uint64_t seconds(std::chrono::system_clock::time_point time) {
  return static_cast<std::uint64_t>(
      std::max<std::time_t>(0, std::chrono::system_clock::to_time_t(time)));
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

/// Metrics of this process, under the standard names that every Prometheus exporter uses.
void process(Exposition& page, Daemon& daemon) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  page.counters("process_cpu_seconds_total", "CPU time of the daemon, in seconds.");
  page.sample({}, seconds(usage.ru_utime) + seconds(usage.ru_stime));
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (const auto statm = read_file("/proc/self/statm");
      statm && std::sscanf(statm->c_str(), "%lu %lu", &size, &resident) == 2) {
    page.gauge("process_resident_memory_bytes", "Resident memory of the daemon.",
               resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  }
  page.gauge("process_start_time_seconds", "When the daemon started.",
             seconds(std::chrono::system_clock::now() - daemon.uptime()));
}

void workloads(Exposition& page, Daemon& daemon) {
  std::map<std::string, std::uint64_t> states = {
      {"enforced", 0}, {"quarantined", 0}, {"unenforced", 0}};
  for (const workload::Workload* workload : daemon.registry().all()) {
    states[workload::text(workload->state)]++;
  }
  page.gauges("trireme_workloads", "Workloads by state.");
  for (const auto& [state, count] : states) {
    page.sample({{"state", state}}, count);
  }
}

void policy_in_force(Exposition& page, Daemon& daemon) {
  const Settings& settings = daemon.settings();
  page.gauge("trireme_policy_generation", "Generation of the policy in force.",
             settings.generation());
  page.gauges("trireme_policy_info", "The policy in force: equal digests are equal policies.");
  page.sample({{"digest", policy::hex(settings.policy()->digest)}}, std::uint64_t{1});
  page.gauges("trireme_identity_info",
              "The identity files in force: equal digests are equal files.");
  page.sample({{"digest", policy::hex(settings.host()->digest)}}, std::uint64_t{1});
  page.gauge("trireme_policy_rules", "Rules of the policy in force.",
             settings.policy()->rules.size());
  page.gauge("trireme_policy_loaded_timestamp_seconds", "When the policy in force was loaded.",
             seconds(settings.loaded()));
  page.gauge("trireme_policy_audit", "1 if [defaults] mode is audit: nothing is blocked.",
             settings.policy()->mode == policy::Mode::audit ? 1 : 0);
  page.gauge("trireme_policy_errors",
             "Errors of the last load; if not 0, an older generation is in force.",
             settings.errors().size());
  page.gauge("trireme_policy_warnings", "Warnings of the policy in force.",
             daemon.warnings().size());
  page.gauge("trireme_policy_unconfirmed",
             "1 while a policy waits for 'trirectl policy confirm', else 0.",
             daemon.changes().waiting() ? 1 : 0);
  page.counters("trireme_policy_changes_total",
                "Changes by 'trirectl policy apply', 'confirm' and 'rollback'; expired: rolled "
                "back because they were not confirmed.");
  for (const auto& [what, count] : daemon.changes().counts()) {
    page.sample({{"change", what}}, count);
  }
  page.counters("trireme_reloads_total", "Reloads by result.");
  page.sample({{"result", "applied"}}, settings.reloads());
  page.sample({{"result", "refused"}}, settings.failed_reloads());
}

void flows(Exposition& page, Daemon& daemon) {
  const FlowFeed& feed = daemon.flows();
  page.counters(
      "trireme_flows_total",
      "Flows reported, by verdict and reason; a denial repeated within seconds counts once.");
  // Series that alerts use exist from the start, because rate() needs a first value.
  auto counts = feed.counts();
  for (const auto& key : {FlowFeed::Key{"deny", "no_rule"}, FlowFeed::Key{"deny", "rule"},
                          FlowFeed::Key{"audit", "no_rule"}}) {
    counts.try_emplace(key, 0);
  }
  for (const auto& [key, count] : counts) {
    page.sample({{"verdict", key.first}, {"reason", key.second}}, count);
  }
  page.counter("trireme_flows_sampled_total",
               "Allowed flows reported as samples: each pair of endpoints and port at most once a "
               "minute.",
               feed.sampled());
  page.counter("trireme_flow_log_lost_total",
               "Times that the kernel's log overflowed, so that flows were lost.",
               daemon.enforcement().logs_lost());
  page.counter("trireme_flow_log_suppressed_total",
               "Flows left out of the journal by its rate limit.", feed.suppressed());
  page.counter("trireme_log_lines_left_out_total",
               "Log lines left out of the journal by rate limits, including those of flows.",
               log_shares().left_out());
  page.counter("trireme_revoked_flows_total", "Open flows that lost their authorization.",
               daemon.revocation().count());
}

void queues(Exposition& page, Daemon& daemon, const verifier::VerifierStatistics& sum) {
  page.gauge("trireme_queue_packets", "Packets waiting for the verifier, in all queues.",
             daemon.enforcement().queued());
  page.counter("trireme_queue_dropped_total", "Packets dropped because a queue was full.",
               sum.lost);
  page.counter("trireme_verifier_packets_total", "Packets that the verifier decided on.",
               sum.packets);
}

void handshakes(Exposition& page, const verifier::VerifierStatistics& sum,
                const handshake::Proved& proved) {
  page.gauge("trireme_handshakes", "Handshakes in memory.", sum.handshakes);
  page.counter("trireme_handshakes_evicted_total",
               "Handshakes dropped to make room for newer ones.", sum.evicted);
  page.counters("trireme_crowded_total",
                "Handshakes, and packets waiting for one, dropped because there was no room; "
                "the oldest of the largest holder goes first.");
  for (std::size_t i = 0; i < handshake::kBounded; i++) {
    page.sample({{"what", handshake::text(static_cast<handshake::Bounded>(i))}},
                sum.crowding.at(i).given_up);
  }
  using handshake::Bounded;
  for (const auto& [what, crowding] :
       {std::pair{Bounded::proved_connections, proved.connections.crowding()},
        {Bounded::proved_datagrams, proved.datagrams.crowding()},
        {Bounded::requests, proved.requests.crowding()},
        {Bounded::first_datagrams, proved.first_datagrams.crowding()}}) {
    page.sample({{"what", handshake::text(what)}}, crowding.given_up);
  }
  page.gauge("trireme_proved_connections",
             "Proved TCP connections, remembered as long as their sockets exist.",
             proved.connections.size());
  page.counter("trireme_hellos_total", "HELLO messages sent, including repeats.", sum.hellos);
  page.counter("trireme_replies_total", "REPLY messages sent, including repeats.", sum.replies);
  page.counter("trireme_handshakes_authorised_total", "Flows authorized by proof, at either end.",
               sum.authorized);
  page.counter("trireme_handshakes_unproved_total", "Flows allowed to peers that offered no proof.",
               sum.unproved);
  page.counter("trireme_proofs_lost_total",
               "PROOF messages that could not be sent; the server asks again.", sum.proofs_lost);
  page.counter("trireme_handshake_events_lost_total",
               "Refusals that were not reported because there were too many.", sum.events_lost);
  page.counters("trireme_handshakes_refused_total",
                "Packets of handshakes that were refused or dropped, by reason.");
  for (std::size_t i = 1; i < handshake::kReasons; i++) {
    page.sample({{"reason", handshake::text(static_cast<Reason>(i))}}, sum.refused.at(i));
  }
}

void names(Exposition& page, std::size_t addresses, const points::AnswerCounts& sum) {
  page.gauge("trireme_named_addresses", "Addresses that belong to a network by a DNS name.",
             addresses);
  page.counter("trireme_name_answers_believed_total",
               "DNS answers that added addresses to a network.", sum.believed);
  page.counter("trireme_name_answers_doubted_total",
               "DNS answers not used: no rule allows the workload to ask that server.",
               sum.doubted);
  page.counter("trireme_name_answers_lost_total", "DNS answers dropped because the queue was full.",
               sum.lost);
}

void credentials_known(Exposition& page, Daemon& daemon, const verifier::VerifierStatistics& sum) {
  page.gauge("trireme_peer_identities", "Label sets that remote hosts have proved.",
             daemon.tokens().identities().size());
  page.gauge("trireme_credential_cache_entries",
             "Peers' credentials that the verifier's threads cache.", sum.peers);
  page.counter("trireme_credential_cache_hits_total", "Credentials found in the cache.",
               sum.remembered);
  page.counter("trireme_credential_verifications_total",
               "Certificates verified, each with public-key operations.", sum.verifications);
  const credentials::Trust& trust = *daemon.settings().trust();
  if (trust.offered() == credentials::CredentialType::certificate) {
    page.gauge("trireme_certificate_expiry_timestamp_seconds",
               "When this host's certificate expires.", seconds(trust.expires()));
  }
}

}  // namespace

std::string metrics_text(Daemon& daemon) {
  Exposition page;
  page.gauges("trireme_build_info", "Version and cgroup driver of the daemon.");
  page.sample({{"version", TRIREME_VERSION}, {"cgroup_driver", daemon.cgroup_driver()}},
              std::uint64_t{1});
  workloads(page, daemon);
  policy_in_force(page, daemon);
  flows(page, daemon);
  page.counter("trireme_table_repairs_total",
               "Times that a table was rewritten: another program changed it, or the kernel "
               "refused a change.",
               daemon.enforcement().repairs());
  if (const auto refusals = daemon.local().refusals()) {
    page.counters("trireme_gate_refused_packets_total",
                  "Local packets refused at their socket, by reason.");
    for (const auto& [reason, count] : refusals->by_reason()) {
      page.sample({{"reason", reason}}, count);
    }
  }
  page.gauges("trireme_conntrack_entries", "Entries in conntrack's table, by network namespace.");
  const auto conntracks = daemon.enforcement().conntrack();
  for (const points::Points::ConntrackUse& use : conntracks) {
    page.sample({{"network", use.network}}, use.count.entries);
  }
  page.gauges("trireme_conntrack_max",
              "Most entries that conntrack's table can hold, by network namespace.");
  for (const points::Points::ConntrackUse& use : conntracks) {
    page.sample({{"network", use.network}}, use.count.most);
  }
  page.counters(
      "trireme_self_check_repairs_total",
      "What the periodic comparison with the kernel found: differences of the gate that it "
      "repaired, and workloads that had moved to another network namespace.");
  page.sample({{"what", "gate"}}, daemon.self_check().gate_repairs());
  page.sample({{"what", "network"}}, daemon.self_check().moves());
  page.gauge("trireme_enforcement_points", "Network namespaces in which policy is enforced.",
             daemon.enforcement().size());
  const verifier::Verifier* verifier = daemon.tokens().verifier();
  const verifier::VerifierStatistics sum =
      verifier == nullptr ? verifier::VerifierStatistics{} : verifier->statistics();
  queues(page, daemon, sum);
  handshakes(page, sum, daemon.tokens().proved());
  page.gauges("trireme_largest_holder",
              "Entries of the largest holder when room last ran out, if within the last 30 s.");
  for (const Tokens::Crowded& crowded : daemon.tokens().crowded()) {
    if (crowded.lately) {
      page.sample({{"what", handshake::text(crowded.what)}, {"holder", crowded.holder}},
                  crowded.crowding.holder.holds);
    }
  }
  credentials_known(page, daemon, sum);
  names(page, daemon.enforcement().named(), daemon.enforcement().answers());
  page.counter("trireme_control_turned_away_total",
               "Connections and requests of users other than root that exceeded their limits.",
               daemon.turned_away());
  page.gauge("trireme_problems", "Problems that 'trirectl status' lists.",
             daemon.problems().size());
  process(page, daemon);
  return page.take();
}

}  // namespace trireme::daemon
