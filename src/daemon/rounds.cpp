// SPDX-License-Identifier: Apache-2.0
// Periodic work: at the end of each turn of the loop, each second, every ten minutes.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>

#include "daemon.hpp"
#include "saved_ruleset.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/points/network_names.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::minutes kPrune(10);
constexpr std::chrono::milliseconds kEverySecond(1000);
constexpr std::chrono::seconds kLogSummary(5);
/// After all events that change what is enforced.
constexpr std::int64_t kSecondPriority = event::kNormal + 5;

const char* crowded_text(handshake::Bounded what) {
  switch (what) {
    case handshake::Bounded::handshakes:
      return "handshakes of TCP connections";
    case handshake::Bounded::exchanges:
      return "handshakes of UDP flows";
    case handshake::Bounded::held_datagrams:
      return "datagrams waiting for a handshake";
    case handshake::Bounded::held_segments:
      return "TCP segments waiting for PROOF";
    case handshake::Bounded::proved_connections:
      return "proved connections remembered after conntrack forgets them";
    case handshake::Bounded::proved_datagrams:
      return "proved UDP flows remembered after conntrack forgets them";
    case handshake::Bounded::requests:
      return "requests for connections between workloads of this host";
    case handshake::Bounded::first_datagrams:
      return "first datagrams between workloads of this host";
  }
  return "";
}

}  // namespace

/// Starts the periodic work, and the work at the end of each turn of the event loop.
Status Daemon::follow_time() {
  for (Status opened :
       {prune_.open(loop_->get(), [this] { prune(); }),
        log_summary_.open(loop_->get(), [this] { summarize_log(); }),
        expiry_.open(
            loop_->get(), [this] { look_at_expiry(); }, event::kNormal, event::kExact),
        second_.open(
            loop_->get(), [this] { pass_second(); }, kSecondPriority, kEverySecond / 10),
        loop_->after_turns([this] { finish_turn(); })}) {
    if (!opened) {
      return opened;
    }
  }
  prune_.arm(kPrune);
  second_.arm(kEverySecond);
  return {};
}

void Daemon::update_systemd_status() {
  std::string text =
      fmt::format("{}; policy generation {}, {}", counted(registry_->size(), "workload"),
                  settings_->generation(), counted(settings_->policy()->rules.size(), "rule"));
  if (!settings_->errors().empty()) {
    const std::string& first = settings_->errors().front();
    text = fmt::format("INVALID CONFIGURATION: {}; generation {} stays in force",
                       first.substr(0, first.find('\n')), settings_->generation());
  }
  if (text != last_status_) {
    last_status_ = text;
    sd_notifyf(0, "STATUS=%s", text.c_str());
  }
}

/// Removes remote identities that no flow needs any more, and frees their numbers.
void Daemon::prune() {
  if (auto in_use = points_->numbers_in_use()) {
    proved_->add_numbers(*in_use);
    tokens_->identities().prune(*in_use, std::chrono::steady_clock::now());
  }
  look_at_certificate(*settings_->trust());
  note_saved_ruleset();
  prune_.arm(kPrune);
}

/// Called when all pending events are handled, before the loop sleeps.
void Daemon::finish_turn() {
  const auto reevaluated = points_->reevaluate_new(!revocation_->must_wait());
  problems_.note("flows of new workloads",
                 reevaluated ? Status{} : Status(tl::unexpected(reevaluated.error())));
  if (reevaluated && *reevaluated > 0 && log_shares().admit("connections")) {
    spdlog::info("re-evaluated {} of new workloads", counted(*reevaluated, "open connection"));
  }
  note_watches();
  await_log_summary();
  points_->catch_up();
  // A container whose own network namespace cannot be enforced is quarantined until it can.
  if (points_->lose_unwritable() > 0) {
    docker_->configure(settings_->host());  // which tries again
  }
  update_systemd_status();
}

/// Asks the clock every second, because it can be set, and exactly when the next rule expires.
void Daemon::look_at_expiry() {
  problems_.note("rules that have expired", settings_->look_at_clock());
  problems_.note(kLatestTimeTopic, settings_->keep_latest_time());
  if (const auto left = settings_->time_left();
      left && left->count() > 0 && *left < 2 * kEverySecond) {
    expiry_.arm(*left);
  }
}

void Daemon::pass_second() {
  look_at_expiry();
  changes_->tick();
  proved_->look(points_->all());
  note_conntrack();
  note_crowding();
  note_versions();
  flows_.log_repeated(AuditSummary::Clock::now());
  second_.arm(kEverySecond);
}

/// A full conntrack table drops new connections or forgets idle ones without any message, so report
/// it as a problem.
void Daemon::note_conntrack() {
  points_->read_conntrack();
  std::set<std::string> full;
  for (const points::Points::ConntrackUse& use : points_->conntrack()) {
    const std::string topic =
        "conntrack of " + (use.network == points::kHostNetwork ? "this host" : use.network);
    if (use.full) {
      full.insert(topic);
      problems_.note(topic, fail(fmt::format("its table of {} entries is full or almost full: new "
                                             "connections fail, and idle ones are forgotten",
                                             use.count.most),
                                 "'conntrack -L' shows what fills it; raise "
                                 "net.netfilter.nf_conntrack_max if those entries are legitimate"));
    }
  }
  for (const std::string& topic : full_conntracks_) {
    if (!full.contains(topic)) {
      problems_.note(topic, {});
    }
  }
  full_conntracks_ = std::move(full);
}

void Daemon::note_watches() {
  const auto outcome = [](const std::optional<Error>& problem) {
    return problem ? Status(tl::unexpected(*problem)) : Status{};
  };
  problems_.note("new containers and units are found late, by listing cgroups",
                 outcome(events_->problem()));
  problems_.note("changed files are found late, by polling every second",
                 outcome(settings_->problem()));
}

void Daemon::note_versions() {
  const auto peers = tokens_->other_versions();
  problems_.note("the token protocol",
                 peers.empty() ? Status{} : fail(fmt::format("{}", fmt::join(peers, "; "))));
}

void Daemon::note_saved_ruleset() {
  problems_.note("the saved ruleset", check_saved_ruleset());
}

/// If the verifier has no room, names the largest holder. Only that holder loses entries.
void Daemon::note_crowding() {
  for (const Tokens::Crowded& crowded : tokens_->crowded()) {
    if (crowded.what == handshake::Bounded::proved_datagrams) {
      continue;  // conntrack remembers most of them
    }
    problems_.note(
        fmt::format("too many {}", crowded_text(crowded.what)),
        crowded.lately
            ? fail(fmt::format("{} has most of them; its oldest are dropped first", crowded.holder))
            : Status{});
  }
}

/// Log lines left out by the rate limit are counted in one summary line, kLogSummary later.
void Daemon::await_log_summary() {
  if (!summary_due_ && log_shares().left_out() != summarized_) {
    summary_due_ = true;
    log_summary_.arm(kLogSummary);
  }
}

void Daemon::summarize_log() {
  summary_due_ = false;
  summarized_ = log_shares().left_out();
  spdlog::warn("{}", log_shares().take_summary());
}

}  // namespace trireme::daemon
