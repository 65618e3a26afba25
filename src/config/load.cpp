// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "parse.hpp"
#include "root_reads.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/file.hpp"
#include "trireme/config/file_set.hpp"
#include "trireme/policy/expiry.hpp"
#include "trust_files.hpp"
#include "words.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;

policy::SourceLocation whole(const std::string& file) {
  return {file, 0, 0};
}

class Loader {
 public:
  Loader(std::string directory, Reporter& reporter)
      : directory_(std::move(directory)), reporter_(reporter) {}

  // Reads NAME.toml, then NAME.d/*.toml in byte order of the names.
  std::vector<Source> read(const std::string& name) {
    std::vector<Source> sources;
    read_file(name + ".toml", sources);
    for (const auto& file : drop_ins(name + ".d")) {
      read_file(file, sources);
    }
    return sources;
  }

  void check_launch(const config::LaunchGrant& launch);

  /// False if a file could not be read, for another reason than its mode.
  [[nodiscard]] bool has_read_all() const { return has_read_all_; }

 private:
  void note_failure(int error) { has_read_all_ = has_read_all_ && (error == 0 || error == EACCES); }
  [[nodiscard]] std::string absolute(const std::string& path) const {
    return path.starts_with('/') ? path : directory_ + "/" + path;
  }
  void read_file(const std::string& name, std::vector<Source>& sources);
  std::vector<std::string> drop_ins(const std::string& name);

  std::string directory_;
  Reporter& reporter_;
  std::size_t total_ = 0;  // bytes of the files read so far
  bool has_read_all_ = true;
};

// A missing file counts as empty, but a dangling symbolic link is an error.
void Loader::read_file(const std::string& name, std::vector<Source>& sources) {
  const std::string path = absolute(name);
  struct stat status = {};
  struct stat link = {};
  if (::stat(path.c_str(), &status) != 0) {
    const int error = errno;
    if (error != ENOENT || ::lstat(path.c_str(), &link) == 0) {
      note_failure(error);
      reporter_.error(whole(name), fail_errno("cannot read the file", error).value());
    }
    return;
  }
  if (!S_ISREG(status.st_mode)) {
    reporter_.error(whole(name), "not a regular file",
                    "remove it, or rename it so that it does not end in .toml");
    return;
  }
  if ((status.st_mode & S_IWOTH) != 0) {
    reporter_.warn(whole(name), "this file is world-writable",
                   fmt::format("run 'chmod o-w {}'", path));
  }
  auto content = trireme::read_file(path, kMaxFileBytes);
  if (!content && kept_from_root(path)) {
    reporter_.error(whole(name), content.error().message, mode_hint(path));
  } else if (content && content->size() > kMaxTotalBytes - total_) {
    reporter_.error(whole(name),
                    fmt::format("with this file, the TOML files of the directory have more than {} "
                                "bytes",
                                kMaxTotalBytes),
                    "use selectors and lists to cover many peers with one rule");
  } else if (content) {
    total_ += content->size();
    sources.push_back({name, std::move(*content), status.st_mode & 0777U});
  } else {
    note_failure(content.error().code);
    reporter_.error(whole(name), content.error());
  }
}

std::vector<std::string> Loader::drop_ins(const std::string& name) {
  std::error_code error;
  std::vector<std::string> files;
  fs::directory_iterator entries(absolute(name), error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string file = entries->path().filename().string();
    if (!is_drop_in(file)) {
      continue;
    }
    if (policy::is_printable(file)) {
      files.push_back(name + "/" + file);
    } else {
      reporter_.error(whole(name),
                      fmt::format("the file name '{}' contains a control character", file),
                      "rename it");
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    note_failure(error.value());
    reporter_.error(whole(name), "cannot list the directory: " + error.message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void Loader::check_launch(const config::LaunchGrant& launch) {
  if (!launch.user.empty() && ::getpwnam(launch.user.c_str()) == nullptr) {
    reporter_.warn(launch.where, fmt::format("user '{}' does not exist", launch.user),
                   "the [[launch]] entry takes effect once the user exists");
  }
  if (!launch.group.empty() && ::getgrnam(launch.group.c_str()) == nullptr) {
    reporter_.warn(launch.where, fmt::format("group '{}' does not exist", launch.group),
                   "the [[launch]] entry takes effect once the group exists");
  }
}

/// Reports an error and returns false if `directory` is not an accessible directory.
bool check_directory(const std::string& directory, Reporter& reporter) {
  std::error_code error;
  if (fs::is_directory(directory, error)) {
    return true;
  }
  const std::string reason = error ? error.message() : std::string("not a directory");
  reporter.error({},
                 fmt::format("cannot read the configuration directory '{}': {}", directory, reason),
                 "set it with --config-dir");
  return false;
}

/// Adds what was reported after the files had been parsed.
void add_reported(Reporter& reporter, Configuration& configuration) {
  for (Diagnostic& diagnostic :
       reporter.take(file_names(configuration.policy_sources, configuration.identity_sources))) {
    configuration.diagnostics.push_back(std::move(diagnostic));
  }
}

}  // namespace

void name_host(Host& host) {
  char name[256] = {};
  if (host.name.empty()) {
    host.name = ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  }
}

Configuration load_as_daemon(const std::string& directory, const Sandbox& sandbox, bool reads,
                             KeyFiles keys) {
  Configuration configuration;
  {
    const std::optional<AsDaemon> as_daemon =
        reads ? std::make_optional<AsDaemon>(sandbox) : std::nullopt;
    configuration = load(directory, keys);
  }
  Reporter reporter;
  // Root has tried to read the files as the daemon does. For others, their modes tell.
  const bool asks_modes = ::geteuid() != 0 && !sandbox.ignores_modes();
  const auto report = [&](const policy::SourceLocation& where, const std::string& path) {
    const std::string setting = sandbox.hides(path);
    const bool kept = setting.empty() && asks_modes && modes_keep_from_root(path);
    if (!setting.empty() || kept) {
      reporter.error(where,
                     kept ? fmt::format("the daemon cannot read '{}'", path)
                          : fmt::format("the daemon cannot access '{}': hidden by {} in "
                                        "trireme.service",
                                        path, setting),
                     kept ? mode_hint(path) : "move it to /etc/trireme");
    }
    return !setting.empty() || kept;
  };
  const bool hidden = reads && report({}, directory);
  for (const auto* sources : {&configuration.policy_sources, &configuration.identity_sources}) {
    for (const Source& source : *sources) {
      if (reads && !hidden) {
        report(whole(source.file), directory + "/" + source.file);
      }
    }
  }
  for (const TrustFile& file : configuration.trust_files) {
    const bool absolute = file.path.starts_with('/');
    if (absolute || (reads && !hidden)) {
      report(file.where, absolute ? file.path : directory + "/" + file.path);
    }
  }
  add_reported(reporter, configuration);
  return configuration;
}

std::vector<Diagnostic> expired_rules(const policy::Policy& policy, const policy::Now& now) {
  constexpr std::size_t kMost = 100;
  std::vector<Diagnostic> warnings;
  std::size_t expired = 0;
  for (const policy::Rule& rule : policy.rules) {
    if (!policy::has_expired(rule, now) || ++expired > kMost) {
      continue;
    }
    if (*rule.until > now.clock) {
      warnings.push_back({.severity = Diagnostic::Severity::warning,
                          .where = rule.where,
                          .message = fmt::format("this rule is not in force: the clock was later "
                                                 "than its 'until', {}, before it was set back",
                                                 policy::text(*rule.until)),
                          .hint = "remove it; if the clock was wrong then, see latest-time in "
                                  "triremed(8)"});
    } else {
      warnings.push_back({.severity = Diagnostic::Severity::warning,
                          .where = rule.where,
                          .message = fmt::format("this rule expired at {} and is not in force",
                                                 policy::text(*rule.until)),
                          .hint = "remove it"});
    }
  }
  if (expired > kMost) {
    warnings.push_back({.severity = Diagnostic::Severity::warning,
                        .where = {},
                        .message = counted(expired - kMost, "more rule") + " expired",
                        .hint = "remove these first"});
  }
  return warnings;
}

Configuration check(const std::string& directory, KeyFiles keys) {
  const auto sandbox = Sandbox::installed();
  std::error_code error;
  const bool reads = sandbox && fs::equivalent(directory, sandbox->config_dir(), error) && !error;
  if (keys == KeyFiles::required && ::geteuid() != 0) {
    keys = KeyFiles::for_root;
  }
  Configuration configuration =
      sandbox ? load_as_daemon(directory, *sandbox, reads, keys) : load(directory, keys);
  std::ranges::move(expired_rules(configuration.policy, policy::now()),
                    std::back_inserter(configuration.diagnostics));
  return configuration;
}

FileSet read_files(const std::string& directory) {
  Reporter ignored;  // load() reports what it skips
  Loader loader(directory, ignored);
  return {loader.read("policy"), loader.read("identity")};
}

Configuration load(const std::string& directory, KeyFiles keys) {
  return load_for(directory, directory, keys);
}

Configuration load_for(const std::string& target, const std::string& directory, KeyFiles keys) {
  Reporter reporter;
  if (!check_directory(directory, reporter)) {
    return {{}, {}, reporter.take({})};
  }
  Loader loader(directory, reporter);
  const auto policy = loader.read("policy");
  const auto identity = loader.read("identity");
  Parsed parsed = parse_sources(policy, identity, reporter);
  for (const auto& launch : parsed.host.launches) {
    loader.check_launch(launch);
  }
  const bool files_valid = reporter.errors() == 0;
  name_host(parsed.host);
  auto trust = read_trust(target, parsed.trust_files, parsed.host, keys, reporter);
  return {std::move(parsed.policy),
          std::move(parsed.host),
          reporter.take(file_names(policy, identity)),
          policy,
          identity,
          std::move(parsed.trust_files),
          std::move(parsed.port_forms),
          std::move(trust),
          loader.has_read_all(),
          files_valid};
}

Configuration load_policy(const std::string& directory, const std::vector<Source>& more) {
  Reporter reporter;
  if (!check_directory(directory, reporter)) {
    return {{}, {}, reporter.take({})};
  }
  auto policy = Loader(directory, reporter).read("policy");
  policy.insert(policy.end(), more.begin(), more.end());
  Parsed parsed = parse_sources(policy, {}, reporter);
  auto diagnostics = reporter.take(file_names(policy, {}));
  return {std::move(parsed.policy), {}, std::move(diagnostics), std::move(policy)};
}

void complete(const std::string& directory, Configuration& configuration) {
  Reporter reporter;
  name_host(configuration.host);
  configuration.trust = read_trust(directory, configuration.trust_files, configuration.host,
                                   KeyFiles::required, reporter);
  add_reported(reporter, configuration);
}

}  // namespace trireme::config
