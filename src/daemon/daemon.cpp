// SPDX-License-Identifier: Apache-2.0
#include "daemon.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <csignal>

#include "declared_networks.hpp"
#include "first_start.hpp"
#include "saved_ruleset.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/docker/running.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::minutes kPrune(10);
constexpr std::chrono::milliseconds kEverySecond(1000);
constexpr std::chrono::seconds kLogSummary(5);
/// Below everything that changes who may talk.
constexpr std::int64_t kSecondPriority = event::kNormal + 5;
constexpr std::chrono::seconds kRevokeAgain(1);
constexpr std::chrono::milliseconds kSecondLook(
    100);  // longer than any packet is between two rules

const char* crowded_text(handshake::Bounded what) {
  switch (what) {
    case handshake::Bounded::handshakes:
      return "handshakes of TCP connections";
    case handshake::Bounded::exchanges:
      return "handshakes of UDP flows";
    case handshake::Bounded::held_datagrams:
      return "datagrams that wait for a handshake";
    case handshake::Bounded::held_segments:
      return "TCP segments that wait for PROOF";
    case handshake::Bounded::proved_connections:
      return "proved connections that are remembered after conntrack forgets them";
    case handshake::Bounded::proved_datagrams:
      return "proved UDP flows that are remembered after conntrack forgets them";
    case handshake::Bounded::requests:
      return "requests for connections between workloads of this host";
    case handshake::Bounded::first_datagrams:
      return "first datagrams between workloads of this host";
  }
  return "";
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::start(const Options& options) {
  std::unique_ptr<Daemon> daemon(new Daemon(options));
  for (const auto step : {&Daemon::prepare, &Daemon::assemble, &Daemon::enforce, &Daemon::serve}) {
    if (Status done = (daemon.get()->*step)(); !done) {
      return tl::unexpected(done.error());
    }
  }
  return daemon;
}

Daemon::~Daemon() = default;

/// One instance, its loop and its settings.
Status Daemon::prepare() {
  if (::mkdir(options_.runtime_dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno("cannot make " + options_.runtime_dir);
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

  settings_ = Settings::open(options_.config_dir, options_.runtime_dir);
  for (const std::string& line : settings_->warnings()) {
    spdlog::warn("{}", line);
  }
  for (const std::string& line : settings_->errors()) {
    spdlog::error("{}", line);
  }
  if (settings_->policy() == nullptr) {
    return fail(options_.config_dir + " is not valid",
                "correct the files; 'triremed --check' shows every error");
  }
  if (!settings_->errors().empty()) {
    spdlog::error("{} is not valid; enforcing the last files that were", options_.config_dir);
  }
  for (const std::string& line :
       look_at_first_start(*settings_->policy(), *settings_->identity()).lines) {
    spdlog::warn("{}", line);
  }
  return {};
}

/// The model of what is to be enforced; the kernel is not touched yet.
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
  registry_->set_host_labels(settings_->identity()->host_labels);
  const auto recovered = registry_->recover();
  if (!recovered) {
    return tl::unexpected(recovered.error());
  }
  spdlog::info("{} workloads of an earlier daemon taken over", *recovered);
  // Before any new number is given out: flows of numbers that nobody has any more end here, or a
  // newcomer would inherit them.
  revoke(points_->all());

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
  configure(settings_->identity());
  return events_->start();
}

/// Until the engines answer, what the last daemon heard from them holds.
void Daemon::follow_declared_networks() {
  docker::DeclaredNetworks before = read_declared_networks(options_.runtime_dir);
  points_->set_container_networks(together(before));
  docker_->set_declared(std::move(before));
  docker_->on_declared = [this](const docker::DeclaredNetworks& networks) {
    points_->set_container_networks(together(networks));
    if (Status kept = keep_declared_networks(options_.runtime_dir, networks); !kept) {
      spdlog::error(
          "after a restart tokens are not expected of containers before their engines "
          "answer: {}",
          kept.error().text());
    }
  };
}

/// The kernel's side: enforcement points, and the threads that serve their queues.
Status Daemon::open_points() {
  // Before anything is attached: a kernel that is too old is left as it was.
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
    common_->on_leave = [verifier](handshake::PointId point, policy::Number number, bool is_last) {
      verifier->leave(point, number);
      if (is_last) {
        verifier->remove_local(number);
      }
    };
  }
  auto points = enforcer::Points::open(*common_, tokens_->verifier(), tokens_->mechanism(),
                                       settings_->policy());
  if (!points) {
    return fail(points.error().message, "does another triremed run in this network namespace?");
  }
  points_ = std::move(*points);
  points_->on_open = [this](enforcer::Point& point) { return watch(point); };
  points_->on_close = [this](enforcer::Point& point) {
    watches_.close(point);
    unrevoked_.erase(point.id);
  };
  points_->on_lost = [this](const std::shared_ptr<const kernel::Netns>& network,
                            const Error& error) {
    registry_->quarantine_network(network, error.message);
  };
  expect_peers(*settings_->identity(), *settings_->trust());
  return {};
}

/// In the point's network namespace.
Status Daemon::watch(enforcer::Point& point) {
  // What others do to packets on lo is looked at where this process is.
  const bool is_here = point.network == nullptr;
  return watches_.open(loop_->get(), *points_, point, flows_, *registry_,
                       {.repaired = [this, &point] { look_again({&point}); },
                        .changed =
                            [this, is_here] {
                              if (is_here && local_watch_) {
                                local_watch_->send_canary();
                              }
                            }});
}

/// Time passes while files stay.
void Daemon::look_at_certificate(const credentials::Trust& trust) {
  const auto doubt = trust.doubt(std::chrono::system_clock::now());
  problems_.note("[trust]", doubt ? Status(tl::unexpected(*doubt)) : Status{});
}

/// Peers elsewhere are asked for tokens only where there is a credential to ask with.
void Daemon::expect_peers(const policy::Identity& identity, const credentials::Trust& trust) {
  look_at_certificate(trust);
  points_->set_peers(trust.offered() ? identity.peers : std::vector<policy::Prefix>());
  tokens_->set_peers(identity);
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
    // Where systemd runs, its cgroups are not ours to make: no falling back.
    return tl::unexpected(bus.error());
  }
  if (options_.driver == CgroupDriver::systemd) {
    return fail("systemd is not PID 1 here", "use --cgroup-driver auto or cgroupfs");
  }
  auto scopes = systemd::CgroupfsScopes::open(loop_->get(), *tree_,
                                              workload::strict_slice(options_.runtime_dir));
  if (!scopes) {
    return tl::unexpected(scopes.error());
  }
  scopes_ = std::move(*scopes);
  return {};
}

/// From the model to the kernel, in one transaction.
Status Daemon::enforce() {
  // Only one program at a time has the log group: a second daemon in this network namespace ends
  // here, before it has changed anything.
  if (Status watched = watch(points_->host_point()); !watched) {
    return fail(watched.error().message, "does another triremed run in this network namespace?");
  }
  registry_->on_change = [this](const workload::Workload& workload, bool ended) {
    if (ended) {
      watches_.ended(workload);
      units_->ended(workload);
    }
  };
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
  auto local_watch =
      LocalWatch::create(loop_->get(), *local_, problems_, [this](const gate::Refused& refused) {
        if (auto flow = watches_.tell(refused, *registry_)) {
          flows_.take(std::move(*flow));
        }
      });
  if (!local_watch) {
    return tl::unexpected(local_watch.error());
  }
  local_watch_ = std::move(*local_watch);
  auto check = SelfCheck::open(loop_->get(), *tree_, *registry_, *local_, problems_);
  if (!check) {
    return tl::unexpected(check.error());
  }
  check_ = std::move(*check);
  look_again(points_->all());
  return {};
}

/// What comes again and again, and what follows everything else.
Status Daemon::follow_time() {
  for (Status opened :
       {second_look_.open(loop_->get(), [this] { look_a_second_time(); }),
        prune_.open(loop_->get(), [this] { prune(); }),
        log_summary_.open(loop_->get(), [this] { summarize_log(); }),
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

/// Ears and mouth.
Status Daemon::serve() {
  auto metrics =
      MetricsService::create(loop_->get(), problems_, [this] { return metrics_text(*this); });
  if (!metrics) {
    return tl::unexpected(metrics.error());
  }
  metrics_ = std::move(*metrics);
  Status followed = settings_->follow(
      loop_->get(),
      [this](auto policy, auto identity, auto trust) {
        return apply(std::move(policy), std::move(identity), std::move(trust));
      },
      [this] {
        metrics_->listen(settings_->identity()->metrics_listen);
        note_saved_ruleset();
        tell_systemd();
      });
  if (!followed) {
    return followed;
  }
  auto server = control::Server::listen(loop_->get(), control::socket_path(options_.runtime_dir));
  if (!server) {
    return tl::unexpected(server.error());
  }
  server_ = std::move(*server);
  register_methods(*server_, *this);
  metrics_->listen(settings_->identity()->metrics_listen);
  return {};
}

Status Daemon::run() {
  sd_notify(0, "READY=1");
  note_saved_ruleset();
  tell_systemd();
  note_watches();
  spdlog::info("enforcing: {} rules, {} workloads, cgroup driver {}",
               settings_->policy()->rules.size(), registry_->size(), scopes_->name());
  Status ended = loop_->run();
  sd_notify(0, "STOPPING=1");
  if (verifier::Verifier* verifier = tokens_->verifier()) {
    verifier->finish();
  }
  if (Status saved = proved_->save(points_->all()); !saved) {
    spdlog::error("{}", saved.error().text());
  }
  spdlog::info("ended; table inet {} stays and goes on enforcing what it knew", enforcer::kTable);
  return ended;
}

Status Daemon::apply(std::shared_ptr<const policy::Policy> policy,
                     std::shared_ptr<const policy::Identity> identity,
                     std::shared_ptr<const credentials::Trust> trust) {
  if (Status applied = points_->apply(std::move(policy)); !applied) {
    return applied;
  }
  tokens_->set_trust(trust);
  expect_peers(*identity, *trust);
  registry_->set_host_labels(identity->host_labels);
  configure(identity);
  look_again(points_->all());
  return {};
}

/// Before containers are looked at: what is born meanwhile is told too.
void Daemon::quarantine_births(const policy::Identity& identity) {
  const docker::ConfiguredEngines engines = docker::configured_engines(identity.docker);
  problems_.note("new containers",
                 local_->quarantine_births({.docker = engines.docker, .podman = engines.podman}));
}

void Daemon::configure(const std::shared_ptr<const policy::Identity>& identity) {
  quarantine_births(*identity);
  docker_->configure(identity);
  units_->configure(identity);
  launcher_->configure(identity);
}

/// Where it fails it is tried again.
void Daemon::revoke(const std::vector<enforcer::Point*>& points) {
  std::size_t count = 0;
  for (enforcer::Point* point : points) {
    unrevoked_.erase(point->id);
    if (const auto here = point->enforcer->revoke()) {
      count += *here;
    } else {
      unrevoked_[point->id] = here.error();
      second_looks_[point->id] = std::chrono::steady_clock::now() + kRevokeAgain;
    }
  }
  problems_.note("revocation", unrevoked_.empty()
                                   ? Status{}
                                   : Status(tl::unexpected(unrevoked_.begin()->second)));
  if (count > 0) {
    revoked_ += count;
    if (log_shares().admit("connections")) {
      spdlog::info("{} flows are judged anew: policy allows them no longer, or an end has gone",
                   count);
    }
  }
}

/// Live flows are judged now and once more a moment later. Each look goes through every flow of the
/// machine, so only where something changed.
void Daemon::look_again(const std::vector<enforcer::Point*>& points) {
  const auto due = std::chrono::steady_clock::now() + kSecondLook;
  for (const enforcer::Point* point : points) {
    second_looks_[point->id] = due;
  }
  revoke(points);
  await_second_look();
}

void Daemon::await_second_look() {
  if (second_looks_.empty()) {
    return;
  }
  const auto next = std::ranges::min_element(second_looks_, {}, [](const auto& item) {
                      return item.second;
                    })->second;
  second_look_.arm(
      std::chrono::ceil<std::chrono::microseconds>(next - std::chrono::steady_clock::now()));
}

/// A container whose own network namespace cannot be enforced is shut, until it can.
void Daemon::give_up_on_unwritable() {
  const std::vector<std::pair<enforcer::Point*, Error>> unwritable = watches_.unwritable();
  for (const auto& [point, error] : unwritable) {
    points_->lose(*point, error);
  }
  if (!unwritable.empty()) {
    docker_->configure(settings_->identity());  // which tries again
  }
}

std::map<std::string, std::string> Daemon::sources() const {
  return {{"docker", docker_->status()}, {"units", units_->status()}};
}

std::vector<std::string> Daemon::problems() const {
  std::vector<std::string> lines = problems_.lines();
  std::ranges::move(watches_.problems(), std::back_inserter(lines));
  for (const workload::Workload* workload : registry_->all()) {
    if (workload->reason.starts_with(workload::kNotShut)) {
      lines.push_back(fmt::format("workload {}: {}", workload->name, workload->reason));
    }
  }
  return lines;
}

std::vector<std::string> Daemon::warnings() const {
  std::vector<std::string> lines = settings_->warnings();
  std::ranges::copy(units_->warnings(), std::back_inserter(lines));
  std::ranges::move(tokens_->other_policies(), std::back_inserter(lines));
  return lines;
}

std::size_t Daemon::named() const {
  std::size_t sum = 0;
  for (enforcer::Point* point : points_->all()) {
    sum += point->enforcer->named();
  }
  return sum;
}

std::chrono::seconds Daemon::uptime() const {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                          started_);
}

void Daemon::tell_systemd() {
  std::string text = fmt::format("{} workloads; policy generation {}, {} rules", registry_->size(),
                                 settings_->generation(), settings_->policy()->rules.size());
  if (!settings_->errors().empty()) {
    const std::string& first = settings_->errors().front();
    text = fmt::format("NOT VALID: {}; generation {} stays in force",
                       first.substr(0, first.find('\n')), settings_->generation());
  }
  if (text != told_) {
    told_ = text;
    sd_notifyf(0, "STATUS=%s", text.c_str());
  }
}

void Daemon::look_a_second_time() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<enforcer::Point*> points = points_->all();
  std::erase_if(points, [&](const enforcer::Point* point) {
    const auto due = second_looks_.find(point->id);
    return due == second_looks_.end() || due->second > now;
  });
  std::erase_if(second_looks_, [now](const auto& item) { return item.second <= now; });
  revoke(points);
  await_second_look();
}

/// Identities of peers elsewhere that nobody needs any more, and their numbers.
void Daemon::prune() {
  if (auto in_use = points_->numbers_in_use()) {
    proved_->add_numbers(*in_use);
    tokens_->identities().prune(*in_use, std::chrono::steady_clock::now());
  }
  look_at_certificate(*settings_->trust());
  note_saved_ruleset();
  prune_.arm(kPrune);
}

/// After everything that happened and before the loop sleeps.
void Daemon::finish_turn() {
  const auto settled = points_->settle();
  problems_.note("flows of new workloads",
                 settled ? Status{} : Status(tl::unexpected(settled.error())));
  if (settled && *settled > 0 && log_shares().admit("connections")) {
    spdlog::info("re-evaluated {} open connection{} of new workloads", *settled,
                 *settled == 1 ? "" : "s");
  }
  note_watches();
  await_log_summary();
  watches_.catch_up();
  give_up_on_unwritable();
  tell_systemd();
}

void Daemon::pass_second() {
  proved_->look(points_->all());
  note_conntrack();
  note_crowding();
  note_versions();
  second_.arm(kEverySecond);
}

/// A table that is full refuses new connections, or forgets those of others, without a word.
void Daemon::note_conntrack() {
  watches_.look_at_conntrack();
  std::set<std::string> full;
  for (const PointWatches::ConntrackUse& use : watches_.conntrack(*registry_)) {
    const std::string topic =
        "conntrack of " + (use.network == kHostNetwork ? "this host" : use.network);
    if (use.full) {
      full.insert(topic);
      problems_.note(
          topic, fail(fmt::format("its table of {} entries is full or nearly so: new connections "
                                  "fail, and idle ones are forgotten",
                                  use.count.most),
                      "'conntrack -L' shows what fills it; raise "
                      "net.netfilter.nf_conntrack_max if that is meant to be there"));
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
  problems_.note("changed files are found late, by looking again every second",
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

/// Where the verifier has no room, whoever takes most of it is named: all others go on.
void Daemon::note_crowding() {
  for (const Tokens::Crowded& crowded : tokens_->crowded()) {
    if (crowded.what == handshake::Bounded::proved_datagrams) {
      continue;  // conntrack remembers most of them
    }
    problems_.note(
        fmt::format("{} are full", crowded_text(crowded.what)),
        crowded.lately
            ? fail(fmt::format("{} has most of them; its oldest are dropped first", crowded.holder))
            : Status{});
  }
}

/// Lines that were left out are counted in one line, a moment later.
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
