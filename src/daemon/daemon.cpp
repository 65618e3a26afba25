// SPDX-License-Identifier: Apache-2.0
#include "daemon.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <csignal>

#include "first_start.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/docker/running.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kMostUnitsListed = 50;

}  // namespace

tl::expected<std::unique_ptr<Daemon>, NotStarted> Daemon::start(const Options& options) {
  std::unique_ptr<Daemon> daemon(new Daemon(options));
  for (const auto step : {&Daemon::prepare, &Daemon::assemble, &Daemon::enforce, &Daemon::serve}) {
    if (Status done = (daemon.get()->*step)(); !done) {
      const bool is_invalid = daemon->settings_ && daemon->settings_->policy() == nullptr &&
                              daemon->settings_->has_invalid_files();
      return tl::unexpected(
          NotStarted{done.error(), is_invalid ? kExitInvalidConfiguration : kExitFailure});
    }
  }
  return daemon;
}

Daemon::~Daemon() = default;

/// Locks the runtime directory, creates the event loop and loads the settings.
Status Daemon::prepare() {
  if (::mkdir(options_.runtime_dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno("cannot create " + options_.runtime_dir);
  }
  auto lock = control::lock_instance(options_.runtime_dir);
  if (!lock) {
    return tl::unexpected(lock.error());
  }
  lock_ = std::move(*lock);

  auto loop = event::Loop::create();
  if (!loop) {
    return tl::unexpected(loop.error());
  }
  loop_ = std::move(*loop);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  const auto stop = [this] { loop_->end(); };
  for (Status set :
       {loop_->on_signal(SIGTERM, stop), loop_->on_signal(SIGINT, stop),
        loop_->on_signal(SIGHUP, [this] { (void)settings_->reload(); }), loop_->feed_watchdog()}) {
    if (!set) {
      return set;
    }
  }

  changes_ = std::make_unique<Changes>(options_.state_dir, options_.config_dir, problems_);
  const auto instead = changes_->open(options_.runtime_dir);
  if (!instead) {
    return tl::unexpected(instead.error());
  }
  LatestTime latest(changes_->is_usable() ? options_.state_dir + "/latest-time" : "");
  problems_.note(kLatestTimeTopic, latest.found());
  settings_ = *instead ? Settings::open_instead(options_.config_dir, options_.runtime_dir,
                                                (*instead)->files, (*instead)->reason,
                                                std::chrono::system_clock::now, std::move(latest))
                       : Settings::open(options_.config_dir, options_.runtime_dir,
                                        std::chrono::system_clock::now, std::move(latest));
  for (const std::string& line : settings_->warnings()) {
    spdlog::warn("{}", line);
  }
  for (const std::string& line : settings_->errors()) {
    spdlog::error("{}", line);
  }
  if (settings_->policy() == nullptr) {
    return settings_->has_invalid_files()
               ? fail("invalid configuration in " + options_.config_dir,
                      "'triremed --check' shows every error; fix the files, then start trireme "
                      "again")
               : fail("cannot read the configuration in " + options_.config_dir,
                      "trireme.service tries again every 2 seconds");
  }
  if (settings_->has_invalid_files()) {
    spdlog::error("invalid configuration in {}; enforcing the last valid one", options_.config_dir);
  } else if (!settings_->errors().empty()) {
    spdlog::error("the configuration in {} is not in force completely", options_.config_dir);
  }
  for (const std::string& line :
       look_at_first_start(*settings_->policy(), *settings_->host()).lines) {
    spdlog::warn("{}", line);
  }
  return {};
}

/// Builds the model of what has to be enforced. Does not change the kernel's rules.
Status Daemon::assemble() {
  auto tree = kernel::CgroupTree::find();
  if (!tree) {
    return tl::unexpected(tree.error());
  }
  tree_ = std::make_unique<kernel::CgroupTree>(std::move(*tree));
  if (Status opened = open_points(); !opened) {
    return opened;
  }
  registry_ = std::make_unique<workload::Registry>(*tree_, *points_);
  registry_->provable = [this](const policy::LabelSet& labels) {
    return tokens_->check_labels(labels);
  };
  registry_->set_host_labels(settings_->host()->labels);
  recall_holds();
  revocation_ = std::make_unique<Revocation>(
      *points_, problems_, [this] { return units_ == nullptr || !units_->is_settling(); });
  for (Status opened : {revocation_->follow(loop_->get()), watch_points()}) {
    if (!opened) {
      return opened;
    }
  }
  const auto recovered = registry_->recover();
  if (!recovered) {
    return tl::unexpected(recovered.error());
  }
  if (*recovered > 0) {
    spdlog::info("took over {} of an earlier daemon", counted(*recovered, "workload"));
  }
  // Before any new number is assigned, revoke the flows of numbers that are not in use any more.
  // Otherwise a new workload that gets such a number would inherit them.
  revocation_->look(points_->all());

  if (Status opened = open_scopes(); !opened) {
    return opened;
  }
  auto events =
      workload::CgroupEvents::create(loop_->get(), *tree_, *registry_, *points_, scopes_->slice());
  if (!events) {
    return tl::unexpected(events.error());
  }
  events_ = std::move(*events);
  docker_ = std::make_unique<docker::Source>(loop_->get(), *tree_, *registry_, *events_);
  follow_declared_networks();
  units_ = std::make_unique<systemd::UnitSource>(loop_->get(), *tree_, *registry_, *events_,
                                                 bus_.get(), TRIREME_BINDIR "/trirectl");
  launcher_ = std::make_unique<systemd::Launcher>(
      *registry_, *scopes_, docker::is_container_cgroup,
      systemd::LaunchShares({.is_held = [this](std::uint64_t id) { return local_->is_held(id); },
                             .is_scarce = [this] { return local_->is_scarce(); }}));
  events_->add_source(*docker_);
  events_->add_source(*units_);
  use(settings_->host(), *settings_->trust());
  return events_->start();
}

/// Opens the gate, the verifier's threads and the enforcement points.
Status Daemon::open_points() {
  // Probe before anything is attached, so that a kernel that is too old is left unchanged.
  if (Status possible = kernel::probe_socket_cgroup(); !possible) {
    return possible;
  }
  auto tokens =
      Tokens::start(options_.runtime_dir, numbers_, settings_->policy(), settings_->trust());
  if (!tokens) {
    return tl::unexpected(tokens.error());
  }
  tokens_ = std::move(*tokens);
  if (!tokens_->problem().empty()) {
    problems_.note("tokens", fail(tokens_->problem()));
  }
  auto gate = gate::Gate::open(tree_->absolute("/"));
  if (!gate) {
    return tl::unexpected(gate.error());
  }
  local_ = std::make_unique<enforcer::LocalPolicy>(*tree_, std::move(*gate), settings_->policy());
  common_ = std::make_unique<enforcer::Common>(enforcer::Common{
      .tree = *tree_, .numbers = numbers_, .identities = tokens_->identities(), .local = *local_});
  if (verifier::Verifier* verifier = tokens_->verifier()) {
    common_->on_join = [verifier](handshake::PointId point, policy::Number number,
                                  const policy::LabelSet* labels) {
      if (labels != nullptr) {
        verifier->add_local(std::make_shared<const handshake::LocalIdentity>(number, *labels),
                            point);
      } else {
        verifier->enter(point, number);
      }
    };
    common_->on_named = [verifier](handshake::PointId point, const policy::Address& address,
                                   std::vector<std::string> names) {
      verifier->named().set(point, address, std::move(names));
    };
    common_->clients = [this](handshake::PointId point) {
      return tokens_->proved().datagrams.of_point(point);
    };
    common_->is_proved = [this](const handshake::FlowKey& key) {
      return tokens_->proved().connections.find(key).has_value();
    };
    common_->on_leave = [verifier](handshake::PointId point, policy::Number number, bool is_last) {
      verifier->leave(point, number);
      if (is_last) {
        verifier->remove_local(number);
      }
    };
  }
  auto points = points::Points::open(*common_, tokens_->verifier(), tokens_->mechanism(),
                                     settings_->policy());
  if (!points) {
    return fail(points.error().message, "is another triremed running in this network namespace?");
  }
  points_ = std::move(*points);
  return {};
}

/// Before anything is enrolled. Only one program at a time can have the log group: a second daemon
/// in this network namespace ends here, before it has changed anything.
Status Daemon::watch_points() {
  const Status watched = points_->watch(
      loop_->get(),
      {.registry = *registry_,
       .on_flow = [this](policy::Flow flow) { flows_.take(std::move(flow)); },
       .on_repaired = [this](points::Point& point) { revocation_->look_twice({&point}); },
       // What others do to packets on lo is observed where this process is.
       .on_foreign_change =
           [this] {
             if (local_watch_) {
               local_watch_->send_canary();
             }
           },
       .on_lost =
           [this](const std::shared_ptr<const kernel::Netns>& network, const Error& error) {
             registry_->quarantine_network(network, error.message);
           }});
  return watched ? watched
                 : fail(watched.error().message,
                        "is another triremed running in this network namespace?");
}

Status Daemon::open_scopes() {
  const bool booted = sd_booted() > 0;
  if (options_.driver != CgroupDriver::cgroupfs && booted) {
    auto bus = systemd::Bus::connect(loop_->get());
    if (bus) {
      bus_ = std::move(*bus);
      scopes_ = std::make_unique<systemd::SystemdScopes>(loop_->get(), *bus_);
      return {};
    }
    // Do not fall back to cgroupfs: where systemd runs, only systemd may create cgroups.
    return tl::unexpected(bus.error());
  }
  if (options_.driver == CgroupDriver::systemd) {
    return fail("systemd is not PID 1 on this host", "use --cgroup-driver auto or cgroupfs");
  }
  auto scopes = systemd::CgroupfsScopes::open(loop_->get(), *tree_,
                                              workload::strict_slice(options_.runtime_dir));
  if (!scopes) {
    return tl::unexpected(scopes.error());
  }
  scopes_ = std::move(*scopes);
  return {};
}

/// Writes the model to the kernel: the gate, then the table of each network namespace. The gate is
/// last if it takes over from an earlier daemon's.
Status Daemon::enforce() {
  registry_->on_change = [this](const workload::Workload& workload, bool ended) {
    if (ended) {
      points_->remember_ended(workload);
      units_->ended(workload);
    }
  };
  flows_.set_policy(*settings_->policy());
  if (Status followed = tokens_->follow(loop_->get(), flows_, *registry_); !followed) {
    return followed;
  }
  proved_ = std::make_unique<ProvedMemory>(tokens_->proved(), options_.runtime_dir);
  proved_->recall(points_->all(), *registry_, tokens_->identities());
  if (Status written = points_->start(); !written) {
    return written;
  }
  if (verifier::Verifier* verifier = tokens_->verifier()) {
    verifier->open_queues();
  }
  if (Status followed = follow_time(); !followed) {
    return followed;
  }
  auto local_watch = LocalWatch::create(
      loop_->get(), *local_, problems_,
      [this](const gate::Refused& refused) { flows_.take(points_->describe(refused)); });
  if (!local_watch) {
    return tl::unexpected(local_watch.error());
  }
  local_watch_ = std::move(*local_watch);
  auto check = SelfCheck::open(loop_->get(), *tree_, *registry_, *local_, problems_);
  if (!check) {
    return tl::unexpected(check.error());
  }
  check_ = std::move(*check);
  revocation_->look_twice(points_->all());
  return {};
}

/// Follows changes of the configuration, and opens the metrics and control sockets.
Status Daemon::serve() {
  auto metrics =
      MetricsService::create(loop_->get(), problems_, [this] { return metrics_text(*this); });
  if (!metrics) {
    return tl::unexpected(metrics.error());
  }
  metrics_ = std::move(*metrics);
  Status followed = settings_->follow(
      loop_->get(),
      [this](auto policy, auto host, auto trust) {
        return apply(std::move(policy), std::move(host), std::move(trust));
      },
      [this] {
        changes_->note_load();
        metrics_->listen(settings_->host()->metrics_listen);
        note_saved_ruleset();
        update_systemd_status();
      });
  if (!followed) {
    return followed;
  }
  changes_->follow(*settings_);
  auto traffic = Traffic::open(loop_->get(), *this);
  if (!traffic) {
    return tl::unexpected(traffic.error());
  }
  traffic_ = std::move(*traffic);
  auto server = control::Server::listen(loop_->get(), control::socket_path(options_.runtime_dir));
  if (!server) {
    return tl::unexpected(server.error());
  }
  server_ = std::move(*server);
  register_methods(*server_, *this);
  metrics_->listen(settings_->host()->metrics_listen);
  return {};
}

Status Daemon::run() {
  sd_notify(0, "READY=1");
  note_saved_ruleset();
  update_systemd_status();
  note_watches();
  spdlog::info("enforcing: {}, {}, cgroup driver {}",
               counted(settings_->policy()->rules.size(), "rule"),
               counted(registry_->size(), "workload"), scopes_->name());
  Status ended = loop_->run();
  sd_notify(0, "STOPPING=1");
  flows_.log_repeated(AuditSummary::Clock::time_point::max());
  if (verifier::Verifier* verifier = tokens_->verifier()) {
    verifier->finish();
  }
  if (Status saved = proved_->save(points_->all()); !saved) {
    spdlog::error("{}", saved.error().text());
  }
  spdlog::info("stopped; table inet {} remains and keeps enforcing the last state", abi::kTable);
  if (const std::set<std::string>& gated = units_->gated(); !gated.empty()) {
    spdlog::warn("until trireme runs again, these units do not start: {}",
                 listed(gated, kMostUnitsListed));
  }
  return ended;
}

std::map<std::string, std::string> Daemon::sources() const {
  return {{"docker", docker_->status()}, {"units", units_->status()}};
}

std::vector<std::string> Daemon::problems() const {
  std::vector<std::string> lines = problems_.lines();
  std::ranges::move(points_->problems(), std::back_inserter(lines));
  for (const workload::Workload* workload : registry_->all()) {
    if (workload->reason.starts_with(workload::kNotShut)) {
      lines.push_back(fmt::format("workload {}: {}", workload->name, workload->reason));
    } else if (const workload::Hold* hold = registry_->hold_on(*workload);
               hold != nullptr && workload->state != workload::State::quarantined) {
      lines.push_back(fmt::format("workload {}: NOT QUARANTINED, although {}{}{}", workload->name,
                                  hold->text(), workload->reason.empty() ? "" : ": ",
                                  workload->reason));
    }
  }
  return lines;
}

std::vector<std::string> Daemon::warnings() const {
  std::vector<std::string> lines = settings_->warnings();
  std::ranges::transform(units_->warnings(), std::back_inserter(lines), &config::Diagnostic::text);
  std::ranges::move(tokens_->other_policies(), std::back_inserter(lines));
  std::ranges::move(tokens_->failing_peers(), std::back_inserter(lines));
  return lines;
}

std::chrono::seconds Daemon::uptime() const {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                          started_);
}

}  // namespace trireme::daemon
