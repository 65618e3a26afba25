// SPDX-License-Identifier: Apache-2.0
// The daemon, assembled from its parts: the sources of workloads and the settings feed the
// registry, which the enforcement points write to the kernel. All of it runs in one thread with one
// event loop; only the verifier has threads of its own.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "changes.hpp"
#include "flow_feed.hpp"
#include "local_watch.hpp"
#include "metrics_service.hpp"
#include "problems.hpp"
#include "proved_memory.hpp"
#include "revocation.hpp"
#include "self_check.hpp"
#include "settings.hpp"
#include "tokens.hpp"
#include "traffic.hpp"
#include "trireme/base/event.hpp"
#include "trireme/control/server.hpp"
#include "trireme/docker/source.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/points/points.hpp"
#include "trireme/systemd/launcher.hpp"
#include "trireme/systemd/units.hpp"

namespace trireme::daemon {

enum class CgroupDriver : std::uint8_t { automatic, systemd, cgroupfs };

struct Options {
  std::string config_dir = TRIREME_SYSCONFDIR;
  std::string runtime_dir;
  std::string state_dir = TRIREME_STATEDIR;
  CgroupDriver driver = CgroupDriver::automatic;
  bool foreground = false;
  std::string log_level = "info";
  bool check = false;
};

inline constexpr int kExitFailure = 1;
/// The TOML files are invalid, and there is no last valid configuration: another start with the
/// same files would fail too. EX_CONFIG of sysexits.h; trireme.service is then not restarted. Files
/// that cannot be read are another failure: a file system can be mounted late.
inline constexpr int kExitInvalidConfiguration = 78;

/// Of Problems.
inline constexpr const char* kLatestTimeTopic = "the latest time, below which no rule comes back";

/// Why the daemon did not start, and its exit status.
struct NotStarted {
  Error error;
  int exit_status = kExitFailure;
};

class Daemon {
 public:
  /// Loads the configuration, has the kernel enforce it, and opens the control socket.
  [[nodiscard]] static tl::expected<std::unique_ptr<Daemon>, NotStarted> start(
      const Options& options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Runs until SIGTERM or SIGINT. The rules stay in the kernel.
  [[nodiscard]] Status run();

  // For the control methods and metrics.
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] Settings& settings() { return *settings_; }
  [[nodiscard]] Changes& changes() { return *changes_; }
  [[nodiscard]] workload::Registry& registry() { return *registry_; }
  [[nodiscard]] systemd::Launcher& launcher() { return *launcher_; }
  [[nodiscard]] systemd::UnitSource& units() { return *units_; }
  [[nodiscard]] docker::Source& docker() { return *docker_; }
  [[nodiscard]] const kernel::CgroupTree& tree() const { return *tree_; }
  [[nodiscard]] const std::string& strict_slice() const { return events_->strict_slice(); }
  [[nodiscard]] FlowFeed& flows() { return flows_; }
  [[nodiscard]] const char* cgroup_driver() const { return scopes_->name(); }
  [[nodiscard]] std::map<std::string, std::string> sources() const;
  /// Has the sources of workloads go through theirs again with the settings in force.
  void configure_sources();
  /// Everything that keeps the daemon from working fully, one line each.
  [[nodiscard]] std::vector<std::string> problems() const;
  /// Doubtful settings in the files, entries that match nothing on this host, and remote hosts with
  /// another policy or to which most flows fail, one line each.
  [[nodiscard]] std::vector<std::string> warnings() const;
  [[nodiscard]] std::chrono::seconds uptime() const;
  [[nodiscard]] points::Points& enforcement() { return *points_; }
  [[nodiscard]] const Revocation& revocation() const { return *revocation_; }
  [[nodiscard]] Tokens& tokens() { return *tokens_; }
  [[nodiscard]] const enforcer::LocalPolicy& local() const { return *local_; }
  [[nodiscard]] SelfCheck& self_check() { return *check_; }
  [[nodiscard]] Traffic& traffic() { return *traffic_; }
  [[nodiscard]] std::uint64_t turned_away() const { return server_->turned_away(); }

 private:
  explicit Daemon(Options options) : options_(std::move(options)) {}

  Status prepare();
  Status assemble();
  Status open_scopes();
  Status enforce();
  Status serve();
  Status apply(const std::shared_ptr<const policy::Policy>& policy,
               std::shared_ptr<const config::Host> host,
               std::shared_ptr<const credentials::Trust> trust);
  Status open_points();
  void follow_declared_networks();
  Status watch_points();
  void look_at_certificate(const credentials::Trust& trust);
  void expect_peers(const config::Host& host, const credentials::Trust& trust);
  void use(const std::shared_ptr<const config::Host>& host, const credentials::Trust& trust);
  void quarantine_births(const config::Host& host);
  void recall_holds();
  void update_systemd_status();
  [[nodiscard]] Status follow_time();
  void prune();
  void finish_turn();
  void pass_second();
  void look_at_expiry();
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
  std::unique_ptr<Changes> changes_;
  std::unique_ptr<kernel::CgroupTree> tree_;
  policy::Numbers numbers_;
  std::unique_ptr<Tokens> tokens_;
  std::unique_ptr<ProvedMemory> proved_;
  std::unique_ptr<enforcer::Common> common_;
  std::unique_ptr<enforcer::LocalPolicy> local_;
  std::unique_ptr<points::Points> points_;
  std::unique_ptr<Revocation> revocation_;
  std::unique_ptr<workload::Registry> registry_;
  std::unique_ptr<systemd::Bus> bus_;
  std::unique_ptr<systemd::ScopeDriver> scopes_;
  std::unique_ptr<workload::CgroupEvents> events_;
  std::unique_ptr<docker::Source> docker_;
  std::unique_ptr<systemd::UnitSource> units_;
  std::unique_ptr<systemd::Launcher> launcher_;
  FlowFeed flows_;
  std::unique_ptr<LocalWatch> local_watch_;
  std::unique_ptr<Traffic> traffic_;
  std::unique_ptr<control::Server> server_;
  std::unique_ptr<MetricsService> metrics_;
  std::unique_ptr<SelfCheck> check_;
  event::Timer prune_;
  event::Timer second_;  // runs pass_second() once per second
  event::Timer expiry_;  // runs look_at_expiry() at the moment when a rule expires
  std::set<std::string> full_conntracks_;
  event::Timer log_summary_;
  std::uint64_t summarized_ = 0;  // log lines left out that a summary has already counted
  bool summary_due_ = false;
  std::string last_status_;  // the last STATUS= sent to systemd
};

/// When the host's own credential expires, as "2027-01-01T00:00:00Z"; empty if it never does.
[[nodiscard]] std::string expiry_text(const credentials::Trust& trust);

/// Registers every method of control/methods.hpp.
void register_methods(control::Server& server, Daemon& daemon);
/// The part that changes the configuration on disk, and its history.
void register_change_methods(control::Server& server, Daemon& daemon);
/// "pending" of the method status: null, or what waits for confirmation.
[[nodiscard]] nlohmann::json pending_json(const Changes& changes);

/// Prometheus exposition format 0.0.4.
[[nodiscard]] std::string metrics_text(Daemon& daemon);

}  // namespace trireme::daemon
