// SPDX-License-Identifier: Apache-2.0
// Changes of the configuration on disk that the daemon makes itself: `trirectl policy apply`,
// `confirm` and `rollback`; and the history of what was in force.
//
// STATE-DIR/pending.json has the files that were in force before a change. It is written before the
// first file of the configuration directory changes, and removed when the new files are in force
// and, if the caller asked for that, confirmed. A start that finds it restores the old files before
// anything is loaded. So a crash at any moment leaves either the old files or the new ones.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "pending_change.hpp"
#include "problems.hpp"
#include "settings.hpp"
#include "trireme/base/disk.hpp"
#include "trireme/base/fd.hpp"
#include "trireme/config/file_set.hpp"
#include "trireme/config/history.hpp"

namespace trireme::daemon {

class Changes {
 public:
  /// Time since the boot, including suspends: unlike the wall clock, it does not jump.
  using Clock = std::function<std::chrono::nanoseconds()>;
  [[nodiscard]] static std::chrono::nanoseconds since_boot();

  static constexpr std::chrono::seconds kLongestWait = std::chrono::hours(24);

  Changes(std::string state_dir, std::string directory, Problems& problems, Disk disk = Disk{},
          Clock clock = since_boot);

  /// The files to enforce at the start, if those on disk could not be rolled back.
  struct Instead {
    config::FileSet files;
    Error reason;
  };
  /// Locks the state directory and rolls back a change that was not completed or not confirmed. If
  /// its record cannot be read, the result is the newest configuration of the history that the
  /// files on disk can have replaced, until somebody reloads these. A record of another
  /// configuration directory stays, and changes fail as long as it does.
  /// Call before the configuration is loaded. A state directory that cannot be used, or that
  /// other users can write, is a problem, and only apply() and rollback() fail. Errors: another
  /// daemon has locked it.
  [[nodiscard]] Result<std::optional<Instead>> open(const std::string& runtime_dir);

  /// Records what is in force, and what each later load puts in force. `settings` must live as long
  /// as this object. Call note_load() after each load.
  void follow(Settings& settings);
  void note_load();

  struct Request {
    std::string staged;               // name of a directory in staged_dir()
    config::Digests files;            // of the staged files
    config::Digests over;             // of the files in force with which they were compared
    std::string user;                 // who asks, for people
    std::chrono::seconds confirm{0};  // 0: the change stays without confirmation
  };
  struct Waiting {
    config::Digests files;   // in force
    config::Digests before;  // what a rollback restores
    std::string user;
    std::chrono::seconds left{0};
    std::chrono::system_clock::time_point until;
  };

  /// Puts staged files in place of those on disk, and in force, in one reload. Keys are not
  /// touched. On error, the files and the policy in force are as before.
  [[nodiscard]] Status apply(const Request& request);
  /// Keeps the files of apply() for good. Does nothing if nothing waits because the last apply()
  /// has put these files in force for good, or found them in force, or they are confirmed already.
  /// Errors: nothing waits, and the last apply() was rolled back or replaced, or there was none
  /// since the start; or the time has passed; the files are then rolled back.
  [[nodiscard]] Status confirm(const std::string& user);
  /// Puts an earlier configuration of the history in place and in force. Without digits: the one
  /// before, which is also how to end a wait for confirmation.
  [[nodiscard]] Status rollback(const std::string& digits, const std::string& user);
  /// Rolls back if the time to confirm has passed; repeats a rollback that failed. Call it once per
  /// second.
  void tick();

  [[nodiscard]] std::optional<Waiting> waiting() const;
  [[nodiscard]] const config::History& history() const { return history_; }
  [[nodiscard]] const std::string& state_dir() const { return state_dir_; }
  /// After open(): whether the state directory can be used. If not, the reason is a problem.
  [[nodiscard]] bool is_usable() const { return !unusable_; }
  [[nodiscard]] static std::string staged_dir(const std::string& state_dir) {
    return state_dir + "/staged";
  }
  /// Since the start: "applied", "confirmed", "rolled_back" (by request), "expired".
  [[nodiscard]] const std::map<std::string, std::uint64_t>& counts() const { return counts_; }

 private:
  /// During its lifetime, reloads are this object's own.
  class OwnReload {
   public:
    explicit OwnReload(Changes& of) : busy_(of.busy_), before_(std::exchange(of.busy_, true)) {}
    ~OwnReload() { busy_ = before_; }
    OwnReload(const OwnReload&) = delete;
    OwnReload& operator=(const OwnReload&) = delete;

   private:
    bool& busy_;
    bool before_;
  };

  static constexpr const char* kHistoryTopic = "policy history";  // of Problems
  static constexpr const char* kRollbackTopic = "rollback";

  /// The first digits of the policy's digest, as `trirectl status` shows them.
  [[nodiscard]] static std::string short_text(const config::Digests& digests) {
    return digests.policy.substr(0, 16);
  }
  [[nodiscard]] static std::string user_text(const std::string& user) {
    return user.empty() ? "" : " by " + user;
  }
  /// The errors among the diagnostics, one per line.
  [[nodiscard]] static std::string errors_of(const config::Configuration& configuration);

  [[nodiscard]] std::string pending_path() const { return state_dir_ + "/pending.json"; }
  [[nodiscard]] Status open_state_dir();
  [[nodiscard]] std::optional<Instead> start_without_record(const Error& damage);
  void set_record_aside();
  [[nodiscard]] Status drop_pending();
  void give_way();
  [[nodiscard]] Status give_way_to_save();
  [[nodiscard]] Status check_idle() const;
  [[nodiscard]] Result<config::FileSet> read_staged(const Request& request) const;
  [[nodiscard]] Status keep_replaced(const config::FileSet& files) const;
  [[nodiscard]] Status install(const config::FileSet& files, const std::string& how,
                               const std::string& user, std::chrono::seconds confirm);
  [[nodiscard]] Result<config::History::Entry> find_entry(const std::string& digits,
                                                          const config::Digests& now) const;
  [[nodiscard]] Status put_in_force(const config::FileSet& files, const config::Digests& over);
  [[nodiscard]] Status check_unchanged(const config::Digests& since) const;
  void abandon(bool reload);
  [[nodiscard]] Status keep_record(const config::FileSet& disk) const;
  [[nodiscard]] Status restore_files();
  [[nodiscard]] Status roll_back(const std::string& user);
  [[nodiscard]] Status finish_rollback();
  void record(const std::string& how, const std::string& user);
  void record_rollback(const config::Digests& undone, const std::string& user);

  std::string state_dir_;
  std::string directory_;
  Problems& problems_;
  Disk disk_;
  Clock clock_;
  config::History history_;
  Fd lock_;
  std::optional<Error> unusable_;  // why the state directory cannot be used
  Settings* settings_ = nullptr;
  std::optional<PendingChange> pending_;
  bool is_stale_ = false;         // pending.json is of a change that has ended
  bool is_damaged_ = false;       // pending.json cannot be read
  std::optional<Error> foreign_;  // pending.json is of another configuration directory
  std::optional<config::Digests> undone_at_start_;
  config::Digests recorded_;             // the newest entry of the history
  std::optional<config::Digests> kept_;  // by the last apply() or its confirmation
  bool busy_ = false;
  std::map<std::string, std::uint64_t> counts_ = {
      {"applied", 0}, {"confirmed", 0}, {"rolled_back", 0}, {"expired", 0}};
};

}  // namespace trireme::daemon
