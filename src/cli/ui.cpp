// SPDX-License-Identifier: Apache-2.0
// trirectl ui: a page of this host's connections, for a browser on this host. The daemon is asked
// by one thread for the map, as seldom as that is expensive, and sends denials to another as they
// happen, however many pages are open.
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "known_flows.hpp"
#include "map_pace.hpp"
#include "page_data.hpp"
#include "trireme/base/fd.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/base/users.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "ui_access.hpp"
#include "ui_live.hpp"
#include "ui_routes.hpp"
#include "ui_server.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr std::size_t kMostKinds = 500;  // of denials in the list
constexpr auto kRetry = 1s;

/// Who may connect: root, the user who runs this, and the one who has logged in and then became
/// root, because the browser is that user's.
std::vector<std::uint32_t> page_users() {
  std::set<std::uint32_t> users = {0, ::geteuid()};
  std::uint32_t login = 0;
  constexpr std::uint32_t kNone = 0xffffffffU;
  if (std::ifstream("/proc/self/loginuid") >> login && login != kNone) {
    users.insert(login);
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet
  if (const char* sudo = std::getenv("SUDO_UID"); sudo != nullptr && ::geteuid() == 0) {
    char* end = nullptr;
    const unsigned long uid = std::strtoul(sudo, &end, 10);
    if (end != sudo && *end == '\0' && uid < kNone) {
      users.insert(static_cast<std::uint32_t>(uid));
    }
  }
  return {users.begin(), users.end()};
}

std::string user_text(std::uint32_t uid) {
  const auto name = local_user(uid);
  return name ? printable(*name) : fmt::format("uid {}", uid);
}

/// The newest state of the policy, for explanations.
class NewestPolicy {
 public:
  void set(std::shared_ptr<const DrawnPolicy> drawn) {
    const std::lock_guard lock(mutex_);
    drawn_ = std::move(drawn);
  }
  [[nodiscard]] std::shared_ptr<const DrawnPolicy> get() const {
    const std::lock_guard lock(mutex_);
    return drawn_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const DrawnPolicy> drawn_;
};

/// Reads denials as they happen while a page is open, until `live` is stopped and the pipe of
/// `globals` is closed. After a lost connection it tries again.
void follow_denials(const Globals& globals, UiLive& live) {
  KnownFlows known(kMostKinds);
  while (live.wait_for_reader()) {
    auto client = control::Client::connect(control::socket_path(globals.runtime_dir));
    if (!client) {
      live.set_problem("denials", client.error().text());
      live.pause(kRetry);
      continue;
    }
    client->end_with_reader(globals.end_pipe);
    live.set_problem("denials", "");
    // The daemon sends those that it remembers first. A connection that nobody needs costs nothing
    // until there is a denial.
    bool is_needed = true;
    const auto answer =
        client->call(control::method::flows,
                     {{"follow", true}, {"limit", kMostKinds}, {"verdict", {"deny", "audit"}}}, 0ms,
                     [&](const json& flow) {
                       if (known.add(flow)) {
                         live.add_denial(flow);
                       }
                       is_needed = live.is_watched();
                       return is_needed;
                     });
    if (is_needed && !live.stopped()) {
      live.set_problem("denials", answer ? "connection to triremed lost" : answer.error().text());
      live.pause(kRetry);
    }
  }
}

/// Keeps the map up to date while a page is open. `first`: the time that the first map took.
void follow_map(PolicyReader& reader, UiLive& live, NewestPolicy& policy, MapPace::Duration first) {
  MapPace pace;
  live.pause(pace.after(first));
  while (live.wait_for_reader()) {
    const auto began = UiLive::Clock::now();
    auto drawn = reader.read();
    std::optional<MapPace::Duration> took;
    if (drawn) {
      const auto shared = std::make_shared<const DrawnPolicy>(std::move(*drawn));
      policy.set(shared);
      live.set_map(page_map(*shared), time_now());
      took = UiLive::Clock::now() - began;
    }
    live.set_problem("map", drawn ? "" : drawn.error().text());
    live.pause(pace.after(took));
  }
}

void print_address(const Globals& globals, const UiAccess& access, const UiServer& server,
                   const std::vector<std::uint32_t>& users) {
  if (globals.json) {
    print_json({{"url", access.url()}, {"port", server.port()}});
    return;
  }
  std::string names;
  for (const std::uint32_t uid : users) {
    names += (names.empty() ? "" : ", ") + user_text(uid);
  }
  fmt::print("{}\n", access.url());
  std::fflush(stdout);
  fmt::print(stderr,
             "Open this address in a browser on this host. It works once; its tab can reload the "
             "page.\nUsers who can open it: {}. Ctrl+C stops the page.\n",
             names);
}

/// Says once for each user that others have tried.
class Refusals {
 public:
  void add(std::uint32_t uid) {
    const std::lock_guard lock(mutex_);
    if (seen_.size() < kMost && seen_.insert(uid).second) {
      fmt::print(stderr, "trirectl: refused a connection of user {}\n", user_text(uid));
    }
  }

 private:
  static constexpr std::size_t kMost = 20;
  std::mutex mutex_;
  std::set<std::uint32_t> seen_;
};

/// The signals that end the command.
sigset_t ending_signals() {
  sigset_t signals{};
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  return signals;
}

int serve(Globals globals, std::uint16_t port) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return report(globals, fail_errno("cannot create a pipe").value());
  }
  Fd reading(ends[0]);
  const Fd writing(ends[1]);
  globals.end_pipe = writing.get();
  // If the daemon cannot be asked, say so now.
  PolicyReader reader(globals);
  const auto began = UiLive::Clock::now();
  auto drawn = reader.read();
  const MapPace::Duration took = UiLive::Clock::now() - began;
  if (!drawn) {
    return report(globals, drawn.error());
  }
  auto server = UiServer::open(port);
  if (!server) {
    return report(globals, server.error());
  }
  auto access = UiAccess::open((*server)->port());
  if (!access) {
    return report(globals, access.error());
  }
  // Threads inherit the mask: only this one takes the signals.
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  UiLive live(kMostKinds);
  NewestPolicy policy;
  const auto first = std::make_shared<const DrawnPolicy>(std::move(*drawn));
  policy.set(first);
  live.set_map(page_map(*first), time_now());
  UiRoutes routes(*access, live, [&globals, &policy](const json& flow) {
    return denial_answer(globals, *policy.get(), flow);
  });
  Refusals refusals;
  const std::vector<std::uint32_t> users = page_users();
  if (const Status serving =
          (*server)->serve(routes, users, [&refusals](std::uint32_t uid) { refusals.add(uid); });
      !serving) {
    return report(globals, serving.error());
  }
  std::thread denials([&] { follow_denials(globals, live); });
  std::thread maps([&] { follow_map(reader, live, policy, took); });
  print_address(globals, *access, **server, users);

  int signal = 0;
  sigwait(&signals, &signal);
  live.stop();
  reading.reset();  // ends the calls to the daemon
  // Should one take long even so, a second Ctrl+C ends the process.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  denials.join();
  maps.join();
  server->reset();
  return kYes;
}

}  // namespace

void add_ui(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "ui", "Serve a live map and denials to a browser on this host");
  const auto port = std::make_shared<std::uint16_t>(0);
  command->add_option("--port", *port, "TCP port on 127.0.0.1 and ::1 (default: any free one)")
      ->type_name("N")
      // Not 80: browsers leave it out of the header Host.
      ->check(CLI::Range(1024, 65535));
  command->footer(
      "Prints an address and stays in the foreground. The address works once, for root,\n"
      "the user who runs this command, and the user who has logged in before sudo.\n"
      "The page changes nothing. From another machine, forward the same port:\n"
      "ssh -t -L 9470:127.0.0.1:9470 HOST sudo trirectl ui --port 9470");
  command->callback(
      [&globals, &action, port] { action = [&globals, port] { return serve(globals, *port); }; });
}

}  // namespace trireme::cli
