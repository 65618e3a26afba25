// SPDX-License-Identifier: Apache-2.0
// triremed, put together: settings and sources from above, the registry in the middle, the kernel
// below. One thread, one event loop.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "flow_feed.hpp"
#include "local_watch.hpp"
#include "metrics_service.hpp"
#include "point_watches.hpp"
#include "problems.hpp"
#include "proved_memory.hpp"
#include "self_check.hpp"
#include "settings.hpp"
#include "tokens.hpp"
#include "trireme/base/event.hpp"
#include "trireme/control/server.hpp"
#include "trireme/docker/source.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/enforcer/points.hpp"
#include "trireme/systemd/launcher.hpp"
#include "trireme/systemd/units.hpp"

namespace trireme::daemon {

enum class CgroupDriver : std::uint8_t { automatic, systemd, cgroupfs };

struct Options {
  std::string config_dir = TRIREME_SYSCONFDIR;
  std::string runtime_dir;
  CgroupDriver driver = CgroupDriver::automatic;
  bool foreground = false;
  std::string log_level = "info";
  bool check = false;
};

class Daemon {
 public:
  /// Everything up to the moment at which the kernel enforces and callers are answered.
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(const Options& options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Until SIGTERM or SIGINT. The rules stay.
  [[nodiscard]] Status run();

  // What the control methods show and use.
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] Settings& settings() { return *settings_; }
  [[nodiscard]] workload::Registry& registry() { return *registry_; }
  [[nodiscard]] systemd::Launcher& launcher() { return *launcher_; }
  [[nodiscard]] systemd::UnitSource& units() { return *units_; }
  [[nodiscard]] FlowFeed& flows() { return flows_; }
  [[nodiscard]] const char* cgroup_driver() const { return scopes_->name(); }
  [[nodiscard]] std::map<std::string, std::string> sources() const;
  /// What keeps the daemon from doing its whole job, a line each.
  [[nodiscard]] std::vector<std::string> problems() const;
  /// What the files say that is doubtful, by themselves or on this host.
  [[nodiscard]] std::vector<std::string> warnings() const;
  [[nodiscard]] std::chrono::seconds uptime() const;
  [[nodiscard]] const PointWatches& watches() const { return watches_; }
  [[nodiscard]] Tokens& tokens() { return *tokens_; }
  [[nodiscard]] const enforcer::LocalPolicy& local() const { return *local_; }
  [[nodiscard]] SelfCheck& self_check() { return *check_; }
  [[nodiscard]] std::size_t points() const { return points_->size(); }
  [[nodiscard]] std::vector<enforcer::Point*> enforcement_points() { return points_->all(); }
  /// Addresses that are in a network by a name.
  [[nodiscard]] std::size_t named() const;
  [[nodiscard]] std::uint64_t turned_away() const { return server_->turned_away(); }
  [[nodiscard]] std::uint64_t revoked() const { return revoked_; }

 private:
  explicit Daemon(Options options) : options_(std::move(options)) {}

  Status prepare();
  Status assemble();
  Status open_scopes();
  Status enforce();
  Status serve();
  Status apply(std::shared_ptr<const policy::Policy> policy,
               std::shared_ptr<const policy::Identity> identity,
               std::shared_ptr<const credentials::Trust> trust);
  Status open_points();
  void follow_declared_networks();
  Status watch(enforcer::Point& point);
  void look_at_certificate(const credentials::Trust& trust);
  void expect_peers(const policy::Identity& identity, const credentials::Trust& trust);
  void configure(const std::shared_ptr<const policy::Identity>& identity);
  void quarantine_births(const policy::Identity& identity);
  void revoke(const std::vector<enforcer::Point*>& points);
  void look_again(const std::vector<enforcer::Point*>& points);
  void await_second_look();
  void give_up_on_unwritable();
  void tell_systemd();
  [[nodiscard]] Status follow_time();
  void prune();
  void look_a_second_time();
  void finish_turn();
  void pass_second();
  void note_conntrack();
  void note_crowding();
  void note_saved_ruleset();
  void note_versions();
  void note_watches();
  void await_log_summary();
  void summarize_log();

  Options options_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::optional<event::Loop> loop_;
  Fd lock_;
  Problems problems_;
  std::unique_ptr<Settings> settings_;
  std::unique_ptr<kernel::CgroupTree> tree_;
  policy::Numbers numbers_;
  std::unique_ptr<Tokens> tokens_;
  std::unique_ptr<ProvedMemory> proved_;
  std::unique_ptr<enforcer::Common> common_;
  std::unique_ptr<enforcer::LocalPolicy> local_;
  std::unique_ptr<enforcer::Points> points_;
  std::unique_ptr<workload::Registry> registry_;
  std::unique_ptr<systemd::Bus> bus_;
  std::unique_ptr<systemd::ScopeDriver> scopes_;
  std::unique_ptr<workload::CgroupEvents> events_;
  std::unique_ptr<docker::Source> docker_;
  std::unique_ptr<systemd::UnitSource> units_;
  std::unique_ptr<systemd::Launcher> launcher_;
  FlowFeed flows_;
  PointWatches watches_;
  std::unique_ptr<LocalWatch> local_watch_;
  std::unique_ptr<control::Server> server_;
  std::unique_ptr<MetricsService> metrics_;
  std::unique_ptr<SelfCheck> check_;
  std::map<handshake::PointId, std::chrono::steady_clock::time_point>
      second_looks_;                               // when each is due
  std::map<handshake::PointId, Error> unrevoked_;  // where revocation has failed
  event::Timer second_look_;
  event::Timer prune_;
  event::Timer second_;  // passes again and again
  std::set<std::string> full_conntracks_;
  event::Timer log_summary_;
  std::uint64_t summarized_ = 0;  // log lines left out that a summary has counted
  bool summary_due_ = false;
  std::string told_;  // the last STATUS=
  std::uint64_t revoked_ = 0;
};

/// Registers every method of control/methods.hpp.
void register_methods(control::Server& server, Daemon& daemon);

/// Prometheus exposition format 0.0.4.
[[nodiscard]] std::string metrics_text(Daemon& daemon);

}  // namespace trireme::daemon
