// SPDX-License-Identifier: Apache-2.0
#include "settings.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <syslog.h>

#include <algorithm>

#include "last_good.hpp"

#include "trireme/base/counted.hpp"
#include "trireme/base/journal.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::seconds kPoll(1);          // between two polls if files cannot be watched
constexpr std::chrono::milliseconds kQuiet(200);  // without a change, before a reload
constexpr std::chrono::seconds kPatience(1);      // reload after this even if files keep changing
constexpr std::chrono::seconds kWriting(10);      // ... and even if a file is open for writing
constexpr std::chrono::hours kNotice(1);          // before a deny rule expires
constexpr std::chrono::minutes kKeepTime(5);      // between two writes of the latest time
constexpr std::size_t kMostRules = 100;  // that expire together have a line each in the log

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    text += (text.empty() ? "" : "\n") + line;
  }
  return text;
}

std::vector<std::string> trust_files(const config::TrustSettings& trust) {
  std::vector<std::string> files = {trust.certificate, trust.key, trust.psk_file};
  files.insert(files.end(), trust.ca.begin(), trust.ca.end());
  files.insert(files.end(), trust.revoked.begin(), trust.revoked.end());
  std::erase(files, "");
  return files;
}

}  // namespace

std::unique_ptr<Settings> Settings::open(const std::string& directory,
                                         const std::string& runtime_dir, Clock clock,
                                         LatestTime latest) {
  std::unique_ptr<Settings> settings(new Settings(directory, runtime_dir,
                                                  config::Watcher::open(directory),
                                                  std::move(clock), std::move(latest)));
  config::Configuration found = settings->read();
  if (!settings->accept(found)) {
    settings->fall_back();
    if (settings->policy_ == nullptr && found.files_valid) {
      settings->use_without_trust(std::move(found));
    }
  }
  return settings;
}

std::unique_ptr<Settings> Settings::open_instead(const std::string& directory,
                                                 const std::string& runtime_dir,
                                                 const config::FileSet& files, const Error& reason,
                                                 Clock clock, LatestTime latest) {
  std::unique_ptr<Settings> settings(new Settings(directory, runtime_dir,
                                                  config::Watcher::open(directory),
                                                  std::move(clock), std::move(latest)));
  std::ignore = settings->enforce_instead(files, reason);
  return settings;
}

Status Settings::follow(sd_event* loop, Apply apply, std::function<void()> outcome) {
  loop_ = loop;
  apply_ = std::move(apply);
  outcome_ = std::move(outcome);
  const auto quiet = [this] {
    if (!wait_for_writer()) {
      (void)reload();
    }
  };
  for (Status opened :
       {follow_changes(), quiet_.open(loop, quiet), poll_.open(loop, [this] { poll(); })}) {
    if (!opened) {
      return opened;
    }
  }
  await_poll();
  return {};
}

/// Registers the watcher with the event loop once it has a descriptor.
Status Settings::follow_changes() {
  return changed_.is_open() || watcher_.fd() < 0
             ? Status{}
             : changed_.open(loop_, watcher_.fd(), EPOLLIN,
                             [this](std::uint32_t /*events*/) { look(); });
}

void Settings::look() {
  if (watcher_.drain()) {
    changed_now();
  }
  await_poll();
}

void Settings::changed_now() {
  const auto now = event::now(loop_);
  if (first_change_.count() == 0) {
    first_change_ = now;
  }
  quiet_.arm(std::min<std::chrono::microseconds>(kQuiet, first_change_ + kPatience - now));
}

void Settings::await_poll() {
  if (poll_.is_open() && (watcher_.problem() || is_without_trust_)) {
    poll_.arm(kPoll);
  }
}

void Settings::poll() {
  if (watcher_.poll()) {
    changed_now();
  }
  std::ignore = follow_changes();
  await_poll();
}

/// Postpones the reload while a file is open for writing. A file that an editor has truncated and
/// is still writing can be valid, but with only a part of its rules.
bool Settings::wait_for_writer() {
  if (event::now(loop_) >= first_change_ + kWriting || !watcher_.has_writer()) {
    return false;
  }
  quiet_.arm(kQuiet);
  return true;
}

/// Watches the [trust] files named by the files on disk, and those of the configuration in force.
/// Returns true if the set of watched files has changed.
bool Settings::watch_trust_files() {
  std::vector<std::string> files = trust_files(named_);
  if (host_) {
    std::ranges::move(trust_files(host_->trust), std::back_inserter(files));
  }
  std::ranges::sort(files);
  files.erase(std::ranges::unique(files).begin(), files.end());
  if (files == watched_) {
    return false;
  }
  watched_ = files;
  watcher_.set_extra_files(std::move(files));
  await_poll();
  return true;
}

/// Reads the files on disk. errors() are then those of the files.
config::Configuration Settings::read() {
  config::Configuration configuration = config::load(directory_);
  // Watch the [trust] files even when they are the reason the load failed, so fixing them triggers
  // a reload. If the watch set changed, load again to close the gap before the watches existed.
  named_ = configuration.host.trust;
  if (watch_trust_files()) {
    configuration = config::load(directory_);
  }
  errors_.clear();
  for (const config::Diagnostic& diagnostic : configuration.diagnostics) {
    if (diagnostic.severity == config::Diagnostic::Severity::error) {
      errors_.push_back(diagnostic.text());
    }
  }
  has_invalid_files_ = configuration.files_read && !configuration.files_valid;
  return configuration;
}

/// Puts what read() has returned in force.
Status Settings::accept(const config::Configuration& configuration) {
  if (!errors_.empty()) {
    return fail(join(errors_), "'trirectl policy check' shows the same errors");
  }
  if (Status taken = take(configuration); !taken) {
    errors_.push_back("the policy is valid but cannot be applied: " + taken.error().text());
    return fail(errors_.back());
  }
  is_without_trust_ = false;
  if (Status kept = keep_last_good(runtime_dir_, files_of(configuration)); !kept) {
    spdlog::error("{}", kept.error().text());
  }
  return {};
}

/// Uses the last valid files.
void Settings::fall_back() {
  if (auto last_good = read_last_good(runtime_dir_)) {
    std::ignore = use(std::move(*last_good));
  }
}

/// Uses the files on disk, which are valid, without the files of [trust], which are not. errors()
/// has their errors already.
void Settings::use_without_trust(config::Configuration files) {
  errors_.emplace_back("the keys of [trust] cannot be used: remote hosts stay unlabeled");
  const config::FileSet kept = files_of(files);
  drop_trust(files);
  if (const Status taken = take(std::move(files)); !taken) {
    errors_.push_back(taken.error().text());
  } else if (const Status saved = keep_last_good(runtime_dir_, kept); !saved) {
    spdlog::error("{}", saved.error().text());
  }
}

void Settings::drop_trust(config::Configuration& files) {
  std::erase_if(files.diagnostics, [](const config::Diagnostic& diagnostic) {
    return diagnostic.severity == config::Diagnostic::Severity::error;
  });
  files.trust = {};
  is_without_trust_ = true;
  await_poll();
}

/// Uses the result of config::parse(). It has only the paths of keys, so the keys are read from
/// disk.
Status Settings::use(config::Configuration files) {
  config::complete(directory_, files);
  is_without_trust_ = false;
  if (!files.valid()) {
    errors_.emplace_back("the keys of [trust] cannot be used either: remote hosts stay unlabeled");
    for (const config::Diagnostic& diagnostic : files.diagnostics) {
      if (diagnostic.severity == config::Diagnostic::Severity::error) {
        errors_.push_back(diagnostic.text());
      }
    }
    drop_trust(files);
  }
  Status taken = take(std::move(files));
  if (!taken) {
    errors_.push_back(taken.error().text());
  }
  watch_trust_files();
  return taken;
}

Status Settings::enforce_instead(const config::FileSet& files, const Error& reason) {
  errors_ = {reason.text()};
  if (Status used = use(config::parse(files.policy, files.identity)); !used) {
    return used;
  }
  if (Status kept = keep_last_good(runtime_dir_, files); !kept) {
    spdlog::error("{}", kept.error().text());
  }
  if (outcome_) {
    outcome_();
  }
  return {};
}

Status Settings::take(config::Configuration configuration) {
  auto trust =
      credentials::Trust::load(configuration.trust, trust_, std::chrono::system_clock::now());
  if (!trust) {
    return tl::unexpected<Error>(trust.error().front());
  }
  const policy::Now now = see_clock();
  auto whole = std::make_shared<const policy::Policy>(std::move(configuration.policy));
  auto policy = std::make_shared<const policy::Policy>(policy::in_force(*whole, now));
  auto host = std::make_shared<const config::Host>(std::move(configuration.host));
  if (apply_) {
    if (Status applied = apply_(policy, host, *trust); !applied) {
      return applied;
    }
  }
  policy_ = std::move(policy);
  whole_policy_ = std::move(whole);
  period_ = policy::period_of(*whole_policy_, now);
  evaluated_ = now;
  keeps_time_now_ = true;
  allows_until_ = std::ranges::any_of(whole_policy_->rules, [](const policy::Rule& rule) {
    return rule.until && rule.action == policy::Rule::Action::allow;
  });
  host_ = std::move(host);
  trust_ = std::move(*trust);
  policy_sources_ = std::move(configuration.policy_sources);
  identity_sources_ = std::move(configuration.identity_sources);
  load_warnings_.clear();
  for (const config::Diagnostic& diagnostic : configuration.diagnostics) {
    load_warnings_.push_back(diagnostic.text());
  }
  set_warnings(now);
  find_rules_to_announce();
  announce_expiry(now.clock);
  generation_++;
  loaded_ = std::chrono::system_clock::now();
  return {};
}

policy::Now Settings::rule_time() const {
  return {std::chrono::floor<std::chrono::seconds>(clock_()), latest_.latest()};
}

policy::Now Settings::see_clock() {
  latest_.see(rule_time().clock);
  return rule_time();
}

Status Settings::keep_latest_time() {
  if (!keeps_time_now_ && !allows_until_) {
    return {};
  }
  Status kept = latest_.keep(keeps_time_now_ ? std::chrono::seconds(0) : kKeepTime);
  keeps_time_now_ = keeps_time_now_ && !kept;
  return kept;
}

void Settings::set_warnings(const policy::Now& now) {
  warnings_ = load_warnings_;
  std::ranges::transform(config::expired_rules(*whole_policy_, now), std::back_inserter(warnings_),
                         &config::Diagnostic::text);
}

void Settings::find_rules_to_announce() {
  to_announce_.clear();
  for (const policy::Rule& rule : whole_policy_->rules) {
    if (rule.until && rule.action == policy::Rule::Action::deny &&
        rule.mode == policy::Mode::enforce) {
      to_announce_.push_back(&rule);
    }
  }
}

/// An expired deny rule opens what it denied, so it is announced while there is time to renew it;
/// again if the clock was set back, because it was announced too early.
void Settings::announce_expiry(std::chrono::sys_seconds time) {
  if (time < announced_until_) {
    find_rules_to_announce();
  }
  announced_until_ = time;
  std::size_t announced = 0;
  std::erase_if(to_announce_, [time, &announced](const policy::Rule* rule) {
    if (time < *rule->until - kNotice) {
      return false;
    }
    if (time < *rule->until && ++announced <= kMostRules) {
      spdlog::warn("{} expires at {}: what it denies is then decided without it", rule->text(),
                   policy::text(*rule->until));
    }
    return true;
  });
  if (announced > kMostRules) {
    spdlog::warn("{} will expire within an hour",
                 counted(announced - kMostRules, "more deny rule"));
  }
}

Status Settings::look_at_clock() {
  const policy::Now now = see_clock();
  announce_expiry(now.clock);
  if (period_.contains(now.clock)) {
    return {};
  }
  auto policy = std::make_shared<const policy::Policy>(policy::in_force(*whole_policy_, now));
  if (apply_) {
    if (Status applied = apply_(policy, host_, trust_); !applied) {
      return applied;
    }
  }
  std::size_t changed = 0;
  for (const policy::Rule& rule : whole_policy_->rules) {
    if (rule.until && policy::has_expired(rule, now) != policy::has_expired(rule, evaluated_) &&
        ++changed <= kMostRules) {
      spdlog::warn("{} {}: its until is {}", rule.text(),
                   policy::has_expired(rule, now) ? "has expired" : "is in force again",
                   policy::text(*rule.until));
    }
  }
  if (changed > kMostRules) {
    spdlog::warn("{} expired, or are in force again", counted(changed - kMostRules, "more rule"));
  }
  policy_ = std::move(policy);
  period_ = policy::period_of(*whole_policy_, now);
  evaluated_ = now;
  keeps_time_now_ = true;
  set_warnings(now);
  return {};
}

std::optional<std::chrono::microseconds> Settings::time_left() const {
  if (period_.end == std::chrono::sys_seconds::max()) {
    return std::nullopt;
  }
  return period_.end - std::chrono::floor<std::chrono::microseconds>(clock_());
}

Status Settings::reload() {
  first_change_ = {};
  if (quiet_.is_open()) {
    quiet_.disarm();
  }
  Status done = before_reload ? before_reload() : Status{};
  if (done) {
    done = load();
  } else {
    errors_ = {done.error().text()};
  }
  (done ? reloads_ : failed_reloads_)++;
  if (done) {
    spdlog::info("{}: generation {} in force, {}, digest {}, identity digest {}", directory_,
                 generation_, counted(policy_->rules.size(), "rule"), policy::hex(policy_->digest),
                 policy::hex(host_->digest));
    std::ranges::for_each(warnings_, [](const std::string& line) { spdlog::warn("{}", line); });
  } else {
    std::ranges::for_each(errors_, [](const std::string& line) { spdlog::error("{}", line); });
    log_event(LOG_ERR, message_id::kReloadRefused,
              fmt::format("{}: invalid; generation {} stays in force", directory_, generation_),
              {{"DIRECTORY", directory_},
               {"GENERATION", std::to_string(generation_)},
               {"ERRORS", std::to_string(errors_.size())},
               {"ERROR", errors_.empty() ? done.error().message : errors_.front()}});
  }
  outcome_();
  return done;
}

Status Settings::reload_written() {
  // In this order: what is saved after the events were taken causes new ones.
  std::ignore = watcher_.drain();
  std::ignore = watcher_.poll();
  return reload();
}

}  // namespace trireme::daemon
