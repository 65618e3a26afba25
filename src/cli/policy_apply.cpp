// SPDX-License-Identifier: Apache-2.0
// policy apply: checks and compares a directory, and has the daemon put its files in place. The
// daemon's sandbox hides home directories and /tmp, so what was read and compared is then copied to
// the daemon's state directory. What the daemon reads there must have the same digest.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "diagnostics.hpp"
#include "policy_diff.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/config/file_set.hpp"
#include "trireme/control/methods.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::chrono::seconds kLongestWait{86'400};  // the daemon's limit

struct ApplyOptions {
  std::string directory;
  std::string confirm;  // a time span; empty: the change stays
  bool yes = false;
};

/// A copy of files in the daemon's state directory, which the destructor removes.
class Staged {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Staged>> make(const std::string& state_dir,
                                                            const config::FileSet& files) {
    const Disk disk;
    const std::string parent = state_dir + "/staged";
    if (Status made = disk.make_directory(parent, 0700); !made) {
      return tl::unexpected(made.error());
    }
    std::string path = parent + "/XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) {
      return fail_errno("cannot create a directory in " + parent);
    }
    std::unique_ptr<Staged> staged(new Staged(path));
    if (Status written = write_files(disk, path, files); !written) {
      return tl::unexpected(written.error());
    }
    return staged;
  }
  ~Staged() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;

  [[nodiscard]] std::string name() const { return fs::path(path_).filename().string(); }

 private:
  explicit Staged(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// What the daemon says about itself before the change.
struct Daemon {
  std::string directory;
  std::string state_dir;
  config::Digests in_force;
};

Result<Daemon> look_at_daemon(const Globals& globals) {
  const auto status = ask(globals, control::method::status, json::object());
  if (!status) {
    return tl::unexpected(status.error());
  }
  if (const json pending = status->value("pending", json()); pending.is_object()) {
    return fail(fmt::format("the change by {} to policy digest {} waits for confirmation until {}",
                            pending.value("user", "?"), pending.value("digest", "?").substr(0, 16),
                            pending.value("confirm_until", "?")),
                "run 'trirectl policy confirm' or 'trirectl policy rollback' first");
  }
  const json& policy = status->at("policy");
  return Daemon{.directory = policy.at("directory").get<std::string>(),
                .state_dir = status->at("state_directory").get<std::string>(),
                .in_force = {policy.at("digest").get<std::string>(),
                             policy.at("identity_digest").get<std::string>()}};
}

/// Prints every diagnostic if there is an error; warnings if there is none.
bool check_files(const Globals& globals, const std::string& directory,
                 const config::Configuration& configuration) {
  if (!configuration.valid()) {
    report_invalid(globals, directory, configuration.diagnostics, "not applied");
    return false;
  }
  for (const auto& diagnostic : configuration.diagnostics) {
    fmt::print(stderr, "{}\n", printable(diagnostic.text()));
  }
  return true;
}

/// A directory without identity files would remove the identity of this host. A policy repository
/// has none; to remove it on purpose, add an empty identity.toml.
Status check_identity(const ApplyOptions& wanted, const Daemon& daemon,
                      const config::FileSet& files) {
  const auto before = config::load(daemon.directory, config::KeyFiles::optional);
  if (!files.identity.empty() || before.identity_sources.empty()) {
    return {};
  }
  return fail(wanted.directory + " has no identity.toml, so this host would lose its own",
              "copy it from " + daemon.directory + ", or add an empty one if you mean that");
}

/// Asks on stderr; anything but "y" or "yes" is a no.
bool agrees(const std::string& question) {
  fmt::print(stderr, "{} [y/N] ", printable(question));
  std::fflush(stderr);
  std::string answer;
  for (int c = std::fgetc(stdin); c != EOF && c != '\n'; c = std::fgetc(stdin)) {
    answer.push_back(static_cast<char>(c));
  }
  return answer == "y" || answer == "Y" || answer == "yes";
}

int print_in_force(const Globals& globals, const json& outcome) {
  if (globals.json) {
    print_json(outcome);
    return kYes;
  }
  fmt::print("in force: generation {}, {}, digest {}\n", outcome.value("generation", 0),
             counted(outcome.value("rules", std::uint64_t{0}), "rule"),
             printable(outcome.value("digest", "?").substr(0, 16)));
  if (const json until = outcome.value("confirm_until", json()); until.is_string()) {
    fmt::print("rolled back at {} unless confirmed: trirectl policy confirm\n",
               printable(until.get<std::string>()));
  }
  return kYes;
}

/// Shows the change, if there is one, and asks. Returns an exit code, or nullopt to go on.
std::optional<int> review(const Globals& globals, const ApplyOptions& wanted, const Daemon& daemon,
                          const config::Configuration& configuration) {
  if (digests_of(files_of(configuration)) == daemon.in_force) {
    fmt::print(stderr, "{} has the files that are in force\n", printable(wanted.directory));
    return std::nullopt;
  }
  if (globals.json) {
    return std::nullopt;  // --yes was given
  }
  if (show_diff(globals, configuration, wanted.directory) == Compared::failed) {
    return kNo;
  }
  if (wanted.yes ||
      agrees(fmt::format("Replace the policy and identity files in {}?", daemon.directory))) {
    return std::nullopt;
  }
  fmt::print(stderr, "trirectl: nothing has changed\n");
  return kNo;
}

int apply(const Globals& globals, const ApplyOptions& wanted) {
  std::uint64_t confirm = 0;
  if (!wanted.confirm.empty()) {
    const auto span = parse_time_span(wanted.confirm);
    if (!span || span->count() == 0 || *span > kLongestWait) {
      return report(globals, {.message = "invalid time to confirm '" + wanted.confirm + "'",
                              .hint = "use 1s to 24h, such as 60s or 5m",
                              .usage = true});
    }
    confirm = static_cast<std::uint64_t>(span->count());
  }
  if (!wanted.yes && (globals.json || ::isatty(STDIN_FILENO) != 1)) {
    return report(globals, {.message = globals.json ? "'policy apply --json' does not ask"
                                                    : "there is no terminal to ask on",
                            .hint = "add --yes to apply without a question",
                            .usage = true});
  }
  const auto daemon = look_at_daemon(globals);
  if (!daemon) {
    return report(globals, daemon.error());
  }
  if (is_same_directory(wanted.directory, daemon->directory)) {
    return report(globals, {wanted.directory + " is the directory that the daemon reads",
                            "apply a copy of it, or save files there: a save is a reload"});
  }
  const auto configuration = config::load_for(daemon->directory, wanted.directory);
  if (!check_files(globals, wanted.directory, configuration)) {
    return kNo;
  }
  const config::FileSet files = files_of(configuration);
  if (const Status has = check_identity(wanted, *daemon, files); !has) {
    return report(globals, has.error());
  }
  if (const auto code = review(globals, wanted, *daemon, configuration)) {
    return *code;
  }
  // Not before the question: Ctrl-C there would leave the copy behind.
  const auto staged = Staged::make(daemon->state_dir, files);
  if (!staged) {
    return report(globals, staged.error());
  }
  const config::Digests digests = digests_of(files);
  const auto outcome = ask(globals, control::method::apply,
                           {{"staged", (*staged)->name()},
                            {"digest", digests.policy},
                            {"identity_digest", digests.identity},
                            {"over_digest", daemon->in_force.policy},
                            {"over_identity_digest", daemon->in_force.identity},
                            {"confirm", confirm}},
                           std::chrono::minutes(2));
  return outcome ? print_in_force(globals, *outcome) : report(globals, outcome.error());
}

}  // namespace

void add_policy_apply(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "apply",
                                  "Replace the files of the daemon by those of a directory");
  const auto wanted = std::make_shared<ApplyOptions>();
  command->add_option("DIR", wanted->directory, "directory with the new files")->required();
  command
      ->add_option("--confirm", wanted->confirm,
                   "roll back after this time (60s, 5m) unless 'policy confirm' is run")
      ->type_name("TIME")
      ->check(time_span());
  command->add_flag("--yes", wanted->yes, "do not ask");
  command->footer(
      "Checks the files, shows what they change, asks, and replaces policy.toml, policy.d,\n"
      "identity.toml and identity.d as a whole in one reload. Keys are not touched.");
  command->callback([&globals, &action, wanted] {
    action = [&globals, wanted] { return apply(globals, *wanted); };
  });
}

void add_policy_confirm(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "confirm", "Keep what 'policy apply --confirm' has applied");
  command->callback([&globals, &action] {
    action = [&globals] {
      const auto outcome = ask(globals, control::method::confirm, json::object());
      if (!outcome) {
        return report(globals, outcome.error());
      }
      if (!outcome->value("waited", true)) {
        fmt::print(stderr, "no change waits for confirmation: the last one applied is in force\n");
      }
      return print_in_force(globals, *outcome);
    };
  });
}

void add_policy_rollback(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "rollback",
                                  "Restore an earlier policy and identity from the history");
  const auto digest = std::make_shared<std::string>();
  command->add_option("DIGEST", *digest,
                      "first digits of its digest (default: the configuration before)");
  command->callback([&globals, &action, digest] {
    action = [&globals, digest] {
      const auto outcome =
          ask(globals, control::method::rollback, {{"digest", *digest}}, std::chrono::minutes(2));
      return outcome ? print_in_force(globals, *outcome) : report(globals, outcome.error());
    };
  });
}

}  // namespace trireme::cli
