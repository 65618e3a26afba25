// SPDX-License-Identifier: Apache-2.0
// The configuration in force. It is reloaded when a file changes on disk (after a short delay), on
// SIGHUP, and by `trirectl reload`. A reload takes effect as a whole or not at all.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "latest_time.hpp"
#include "trireme/base/event.hpp"
#include "trireme/config/file_set.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/config/watcher.hpp"
#include "trireme/policy/expiry.hpp"

namespace trireme::daemon {

class Settings {
 public:
  /// Starts watching the files, then loads them. If they are invalid, errors() has the diagnostics,
  /// and the last valid files, which are saved in the runtime directory, are used; if there are
  /// none, policy() is null. Keys and certificates are not saved: the ones on disk are used. If
  /// they cannot be used, remote hosts stay unlabeled, and errors() says so: also if nothing else
  /// is wrong with the files on disk and there are no last valid ones. They are then looked at
  /// every second until they can, because a mount is not seen otherwise. `clock`: the time of day,
  /// which decides which rules have expired. `latest`: below its time no allow rule comes back.
  using Clock = std::function<std::chrono::system_clock::time_point()>;
  [[nodiscard]] static std::unique_ptr<Settings> open(const std::string& directory,
                                                      const std::string& runtime_dir,
                                                      Clock clock = std::chrono::system_clock::now,
                                                      LatestTime latest = LatestTime());
  /// Puts `files` in force instead of those on disk, and saves them as the last valid ones. They
  /// were valid before: keys that cannot be used are reported as by open(). `reason` becomes the
  /// first of errors().
  Status enforce_instead(const config::FileSet& files, const Error& reason);
  /// The same at the start, where open() would read the files on disk.
  [[nodiscard]] static std::unique_ptr<Settings> open_instead(
      const std::string& directory, const std::string& runtime_dir, const config::FileSet& files,
      const Error& reason, Clock clock = std::chrono::system_clock::now,
      LatestTime latest = LatestTime());
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  /// Reloads when files change on disk, from now on. `apply` puts a valid configuration in force,
  /// as a whole or not at all. `outcome` is called after each reload, successful or not.
  using Apply = std::function<Status(std::shared_ptr<const policy::Policy>,
                                     std::shared_ptr<const config::Host>,
                                     std::shared_ptr<const credentials::Trust>)>;
  [[nodiscard]] Status follow(sd_event* loop, Apply apply, std::function<void()> outcome);

  /// Reads all files again and puts them in force. On error, nothing has changed, and the message
  /// has every diagnostic, one per line.
  Status reload();
  /// reload() after this process has written the files: what it wrote causes no further reload. A
  /// save by another program, at whatever moment, is either read now or causes one.
  Status reload_written();
  /// Called before each reload. If it returns an error, the files are not read, and the reload
  /// fails.
  std::function<Status()> before_reload;

  /// Puts the rules in force that have not expired. Call it every second, because the clock can be
  /// set, and when time_left() has passed. Also logs, an hour before, which deny rules will expire.
  /// On error, the policy in force is as it was, and the next call tries again.
  Status look_at_clock();
  /// Saves the latest time: after each load and each expiry, and every five minutes if an allow
  /// rule has an `until`. Call it after look_at_clock().
  [[nodiscard]] Status keep_latest_time();
  /// The time that decides which rules have expired.
  [[nodiscard]] policy::Now rule_time() const;
  /// Until the next rule expires; nullopt if none will. Not positive if look_at_clock() is due.
  [[nodiscard]] std::optional<std::chrono::microseconds> time_left() const;

  /// The reason if changes on disk can only be found by polling.
  [[nodiscard]] const std::optional<Error>& problem() const { return watcher_.problem(); }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// Without rules that have expired.
  [[nodiscard]] const std::shared_ptr<const policy::Policy>& policy() const { return policy_; }
  /// Of the same files, with them.
  [[nodiscard]] const policy::Policy& whole_policy() const { return *whole_policy_; }
  [[nodiscard]] const std::shared_ptr<const config::Host>& host() const { return host_; }
  [[nodiscard]] const std::shared_ptr<const credentials::Trust>& trust() const { return trust_; }
  /// The files that the policy in force was read from.
  [[nodiscard]] const std::vector<config::Source>& policy_sources() const {
    return policy_sources_;
  }
  /// The files that the identity in force was read from.
  [[nodiscard]] const std::vector<config::Source>& identity_sources() const {
    return identity_sources_;
  }
  [[nodiscard]] config::FileSet files() const { return {policy_sources_, identity_sources_}; }
  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] std::chrono::system_clock::time_point loaded() const { return loaded_; }
  [[nodiscard]] const std::vector<std::string>& errors() const {
    return errors_;
  }  // of the last load
  /// Whether the TOML files that were last read are invalid, so that reading the same files again
  /// is of no use. False if they could not be read, or if errors() are only about files of [trust].
  [[nodiscard]] bool has_invalid_files() const { return has_invalid_files_; }
  [[nodiscard]] const std::vector<std::string>& warnings() const {
    return warnings_;
  }  // of the configuration in force
  [[nodiscard]] std::uint64_t reloads() const { return reloads_; }
  [[nodiscard]] std::uint64_t failed_reloads() const { return failed_reloads_; }

 private:
  Settings(std::string directory, std::string runtime_dir, config::Watcher watcher, Clock clock,
           LatestTime latest)
      : directory_(std::move(directory)),
        runtime_dir_(std::move(runtime_dir)),
        watcher_(std::move(watcher)),
        clock_(std::move(clock)),
        latest_(std::move(latest)) {}
  [[nodiscard]] Status follow_changes();
  void look();
  void poll();
  void changed_now();
  void await_poll();
  [[nodiscard]] bool wait_for_writer();
  bool watch_trust_files();
  Status load() { return accept(read()); }
  [[nodiscard]] config::Configuration read();
  Status accept(const config::Configuration& configuration);
  void fall_back();
  void use_without_trust(config::Configuration files);
  void drop_trust(config::Configuration& files);
  Status use(config::Configuration files);
  Status take(config::Configuration configuration);
  policy::Now see_clock();
  void set_warnings(const policy::Now& now);
  void find_rules_to_announce();
  void announce_expiry(std::chrono::sys_seconds time);

  std::string directory_;
  std::string runtime_dir_;
  config::Watcher watcher_;
  Clock clock_;
  LatestTime latest_;
  bool keeps_time_now_ = false;  // whatever the interval
  bool allows_until_ = false;    // an allow rule has an `until`
  sd_event* loop_ = nullptr;
  event::Io changed_;
  event::Timer quiet_;
  event::Timer poll_;
  std::chrono::microseconds first_change_{};  // event::now(); 0: no reload is scheduled
  Apply apply_;
  std::function<void()> outcome_;
  std::shared_ptr<const policy::Policy> policy_;
  std::shared_ptr<const policy::Policy> whole_policy_;
  policy::Period period_;                               // of policy_
  policy::Now evaluated_ = std::chrono::sys_seconds();  // when policy_ was made
  std::vector<const policy::Rule*> to_announce_;  // of whole_policy_: deny rules that will expire
  std::chrono::sys_seconds announced_until_ = std::chrono::sys_seconds::min();
  std::shared_ptr<const config::Host> host_;
  std::shared_ptr<const credentials::Trust> trust_;
  config::TrustSettings named_;       // [trust] of the files on disk, valid or not
  std::vector<std::string> watched_;  // files of [trust] that are watched
  std::vector<config::Source> policy_sources_;
  std::vector<config::Source> identity_sources_;
  std::uint64_t generation_ = 0;
  std::chrono::system_clock::time_point loaded_;
  std::vector<std::string> errors_;
  bool has_invalid_files_ = false;
  bool is_without_trust_ = false;  // the files of [trust] could not be used
  std::vector<std::string> load_warnings_;
  std::vector<std::string> warnings_;  // those of the load, and the rules that have expired
  std::uint64_t reloads_ = 0;
  std::uint64_t failed_reloads_ = 0;
};

}  // namespace trireme::daemon
