// SPDX-License-Identifier: Apache-2.0
// triremed: parses the options, then checks the configuration or runs the daemon.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "daemon.hpp"
#include "first_start.hpp"
#include "log.hpp"
#include "socket_lister.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/policy/expiry.hpp"
#include "trireme/systemd/unit_facts.hpp"

namespace trireme::daemon {
namespace {

constexpr int kUsage = 2;  // exit status: invalid usage

int complain(const Error& error, int exit_status = kExitFailure) {
  std::fprintf(stderr, "triremed: %s\n", printable_lines(error.message).c_str());
  if (!error.hint.empty()) {
    std::fprintf(stderr, "triremed: hint: %s\n", printable_lines(error.hint).c_str());
  }
  return exit_status;
}

/// True if this is the directory that the installed daemon reads.
bool is_in_use(const std::string& directory) {
  std::error_code error;
  return std::filesystem::equivalent(directory, TRIREME_SYSCONFDIR, error) && !error;
}

/// Prints every diagnostic and what a first start, or another directory, would cut on stderr.
/// Returns the exit status: 1 if a diagnostic is an error, else 0.
int check(const std::string& directory) {
  const config::Configuration configuration = config::check(directory);
  for (const config::Diagnostic& diagnostic : configuration.diagnostics) {
    std::fprintf(stderr, "%s\n", printable(diagnostic.text()).c_str());
  }
  if (!configuration.valid()) {
    return 1;
  }
  const auto host = std::make_shared<const config::Host>(configuration.host);
  for (const auto& warning : systemd::view_units(host).warnings) {
    std::fprintf(stderr, "%s\n", printable(warning.text()).c_str());
  }
  // The unit runs `--check` before each start. What the daemon's own directory would cut is then
  // cut already, unless this is the first start.
  const policy::Policy policy = policy::in_force(configuration.policy, policy::now());
  const FirstStart found = is_in_use(directory) ? look_at_first_start(policy, configuration.host)
                                                : look_at_configuration(policy, configuration.host);
  for (const std::string& line : found.lines) {
    std::fprintf(stderr, "%s\n", printable(line).c_str());
  }
  return 0;
}

int run(int argc, char** argv) {
  Options options;
  options.runtime_dir = control::default_runtime_dir();
  CLI::App app(
      "Identifies processes and containers by labels and enforces network policy between them",
      "triremed");
  app.set_version_flag("--version", "triremed " TRIREME_VERSION);
  app.add_option("--config-dir", options.config_dir, "directory of policy.toml and identity.toml")
      ->capture_default_str();
  app.add_option("--runtime-dir", options.runtime_dir, "directory of the control socket")
      ->capture_default_str();
  app.add_option("--state-dir", options.state_dir,
                 "directory of the policy history and of changes that wait for confirmation")
      ->capture_default_str();
  const std::map<std::string, CgroupDriver> drivers = {{"auto", CgroupDriver::automatic},
                                                       {"systemd", CgroupDriver::systemd},
                                                       {"cgroupfs", CgroupDriver::cgroupfs}};
  app.add_option("--cgroup-driver", options.driver,
                 "what creates the cgroups of trirun: auto, systemd or cgroupfs")
      ->transform(CLI::CheckedTransformer(drivers))
      ->default_str("auto");
  app.add_flag("--foreground", options.foreground, "log to stderr even if that is the journal");
  app.add_option("--log-level", options.log_level, "least severe messages to log")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->type_name("LEVEL")
      ->capture_default_str();
  app.add_flag("--check", options.check,
               "only check the configuration: exit with 0 if it is valid, with 1 if not; also list "
               "the open connections that a first start, or another directory, would cut");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      return app.exit(error);  // --help or --version
    }
    complain({error.what(), "see 'triremed --help'"});
    return kUsage;
  }
  if (options.check) {
    return check(options.config_dir);
  }
  // trirectl gets these paths from the daemon and may have another working directory.
  options.config_dir = std::filesystem::absolute(options.config_dir);
  options.state_dir = std::filesystem::absolute(options.state_dir);
  if (const Status ready = set_up_log(options.log_level, options.foreground); !ready) {
    return complain(ready.error());
  }
  auto daemon = Daemon::start(options);
  if (!daemon) {
    return complain(daemon.error().error, daemon.error().exit_status);
  }
  const Status ended = (*daemon)->run();
  return ended ? 0 : complain(ended.error());
}

}  // namespace
}  // namespace trireme::daemon

int main(int argc, char** argv) {
  try {
    // The daemon starts itself so: see socket_lister.hpp.
    if (argc == 2 && std::string_view(argv[1]) == trireme::daemon::kListSocketsOption) {
      return trireme::daemon::list_sockets_for(STDIN_FILENO);
    }
    return trireme::daemon::run(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "triremed: %s\n", trireme::printable_lines(exception.what()).c_str());
    return 1;
  }
}
