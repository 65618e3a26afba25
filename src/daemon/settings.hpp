// SPDX-License-Identifier: Apache-2.0
// The configuration in force, and when it changes: a save on disk (debounced), SIGHUP, `trirectl
// reload`. All or nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/event.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/config/watcher.hpp"

namespace trireme::daemon {

class Settings {
 public:
  /// Arms the watcher, then loads. Where the files are not valid,
  /// errors() says so and the last valid ones, kept in the runtime directory, are in force; where
  /// there are none either, policy() is null. Keys are not kept: those on disk are used as they
  /// are, and where they are of no use, other hosts stay unlabelled, which errors() says too.
  [[nodiscard]] static std::unique_ptr<Settings> open(const std::string& directory,
                                                      const std::string& runtime_dir);
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  /// From now on changes on disk lead to reload() by themselves. `apply` puts a valid configuration
  /// in force, whole or not at all; `outcome` hears after each reload.
  using Apply = std::function<Status(std::shared_ptr<const policy::Policy>,
                                     std::shared_ptr<const policy::Identity>,
                                     std::shared_ptr<const credentials::Trust>)>;
  [[nodiscard]] Status follow(sd_event* loop, Apply apply, std::function<void()> outcome);

  /// Reads everything again and puts it in force. The error's message holds every diagnostic, one a
  /// line; nothing has changed then.
  Status reload();

  /// Why changes on disk are only seen by looking again and again, where that is so.
  [[nodiscard]] const std::optional<Error>& problem() const { return watcher_.problem(); }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] const std::shared_ptr<const policy::Policy>& policy() const { return policy_; }
  [[nodiscard]] const std::shared_ptr<const policy::Identity>& identity() const {
    return identity_;
  }
  [[nodiscard]] const std::shared_ptr<const credentials::Trust>& trust() const { return trust_; }
  /// What the policy in force was read from.
  [[nodiscard]] const std::vector<config::Source>& policy_sources() const {
    return policy_sources_;
  }
  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] std::chrono::system_clock::time_point loaded() const { return loaded_; }
  [[nodiscard]] const std::vector<std::string>& errors() const {
    return errors_;
  }  // of the last load
  [[nodiscard]] const std::vector<std::string>& warnings() const {
    return warnings_;
  }  // of the configuration in force
  [[nodiscard]] std::uint64_t reloads() const { return reloads_; }
  [[nodiscard]] std::uint64_t failed_reloads() const { return failed_reloads_; }

 private:
  Settings(std::string directory, std::string runtime_dir, config::Watcher watcher)
      : directory_(std::move(directory)),
        runtime_dir_(std::move(runtime_dir)),
        watcher_(std::move(watcher)) {}
  [[nodiscard]] Status follow_changes();
  void look();
  void poll();
  void changed_now();
  void await_poll();
  [[nodiscard]] bool wait_for_writer();
  bool watch_trust_files();
  Status load();
  void fall_back();
  Status take(config::Configuration configuration);

  std::string directory_;
  std::string runtime_dir_;
  config::Watcher watcher_;
  sd_event* loop_ = nullptr;
  event::Io changed_;
  event::Timer quiet_;
  event::Timer poll_;
  std::chrono::microseconds first_change_{};  // event::now(); 0: no reload is due
  Apply apply_;
  std::function<void()> outcome_;
  std::shared_ptr<const policy::Policy> policy_;
  std::shared_ptr<const policy::Identity> identity_;
  std::shared_ptr<const credentials::Trust> trust_;
  policy::Trust named_;  // by the files on disk, valid or not
  std::vector<std::string> watched_;
  std::vector<config::Source> policy_sources_;
  std::uint64_t generation_ = 0;
  std::chrono::system_clock::time_point loaded_;
  std::vector<std::string> errors_;
  std::vector<std::string> warnings_;
  std::uint64_t reloads_ = 0;
  std::uint64_t failed_reloads_ = 0;
};

}  // namespace trireme::daemon
