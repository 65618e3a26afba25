// SPDX-License-Identifier: Apache-2.0
#include "changes.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "last_good.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/instance.hpp"

namespace trireme::daemon {
namespace {

namespace fs = std::filesystem;

/// A user who can write in the state directory decides which files a start puts in place.
Status check_owner(const std::string& state_dir) {
  struct stat status = {};
  if (::stat(state_dir.c_str(), &status) != 0) {
    return {};  // it will be created
  }
  const bool is_ours = status.st_uid == 0 || status.st_uid == ::geteuid();
  return is_ours && (status.st_mode & 022U) == 0
             ? Status{}
             : fail("'" + state_dir + "' can be written by other users, so it is not used",
                    "run 'chown root " + state_dir + "' and 'chmod 700 " + state_dir +
                        "', check what is in it, then restart trireme");
}

}  // namespace

std::string Changes::errors_of(const config::Configuration& configuration) {
  std::string text;
  for (const config::Diagnostic& diagnostic : configuration.diagnostics) {
    if (diagnostic.severity == config::Diagnostic::Severity::error) {
      text += (text.empty() ? "" : "\n") + diagnostic.text();
    }
  }
  return text;
}

std::chrono::nanoseconds Changes::since_boot() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

Changes::Changes(std::string state_dir, std::string directory, Problems& problems, Disk disk,
                 Clock clock)
    : state_dir_(std::move(state_dir)),
      directory_(std::move(directory)),
      problems_(problems),
      disk_(std::move(disk)),
      clock_(std::move(clock)),
      history_(state_dir_ + "/history", disk_) {}

/// Fails with code 0 only if another daemon has locked the directory.
Status Changes::open_state_dir() {
  if (Status made = disk_.make_directory(state_dir_, 0700); !made) {
    return made;
  }
  auto lock = control::lock_instance(state_dir_);
  if (!lock) {
    return tl::unexpected(lock.error());
  }
  lock_ = std::move(*lock);
  return history_.open();
}

Result<std::optional<Changes::Instead>> Changes::open(const std::string& runtime_dir) {
  if (Status ours = check_owner(state_dir_); !ours) {
    unusable_ = ours.error();
    problems_.note(kHistoryTopic, ours);
    return std::nullopt;
  }
  if (Status opened = open_state_dir(); !opened) {
    if (!lock_.valid() && opened.error().code == 0) {
      return fail(opened.error().message,
                  "every daemon needs a state directory of its own: choose another --state-dir");
    }
    if (!lock_.valid()) {
      unusable_ = opened.error();
    }
    problems_.note(kHistoryTopic, opened);
  }
  std::error_code error;
  fs::remove_all(staged_dir(state_dir_), error);
  auto found = read_pending(pending_path(), directory_);
  if (!found) {
    return start_without_record(found.error());
  }
  if (!found->other_directory.empty()) {
    foreign_ = Error{pending_path() + " is of a change in " + found->other_directory +
                         " that was not completed or not confirmed",
                     "start triremed with that --config-dir, which rolls it back; or remove the "
                     "file and restart trireme, or choose another --state-dir"};
    problems_.note(kRollbackTopic, tl::unexpected(*foreign_));
    return std::nullopt;
  }
  if (!found->change) {
    return std::nullopt;
  }
  pending_ = std::move(*found->change);
  pending_->undoing = true;
  undone_at_start_ = digests_of(pending_->after);
  const config::Digests before = digests_of(pending_->before);
  spdlog::warn(
      "the change to policy digest {}{} was not completed or not confirmed when the daemon ended: "
      "rolling back to {}",
      short_text(*undone_at_start_), user_text(pending_->user), short_text(before));
  if (Status kept = keep_last_good(runtime_dir, pending_->before); !kept) {
    spdlog::error("{}", kept.error().text());
  }
  Status restored = restore_files();
  if (restored) {
    restored = drop_pending();
  }
  problems_.note(kRollbackTopic, restored);
  return restored ? std::nullopt
                  : std::optional(Instead{.files = pending_->before, .reason = restored.error()});
}

void Changes::follow(Settings& settings) {
  settings_ = &settings;
  settings.before_reload = [this] {
    const bool is_due = !busy_ && pending_ && pending_->undoing;
    Status done = is_due ? finish_rollback() : Status{};
    return pending_ ? done : Status{};  // else the rollback has ended, if only because of a save
  };
  if (pending_) {
    return;  // what is in force is recorded when the rollback is complete
  }
  recorded_ = digests_of(settings.files());
  const auto& entries = history_.entries();
  if (undone_at_start_) {
    record_rollback(*undone_at_start_, "");
  } else if (entries.empty() || entries.front().digests != recorded_) {
    record("start", "");
  }
}

Status Changes::drop_pending() {
  if (Status removed = disk_.remove(pending_path()); !removed) {
    return removed;
  }
  if (Status synced = disk_.sync(state_dir_); !synced) {
    return synced;
  }
  pending_.reset();
  return {};
}

/// Ends a change because another program has saved files, which stay. tick() repeats it if the
/// record cannot be removed.
void Changes::give_way() {
  const Status dropped = drop_pending();
  pending_.reset();
  is_stale_ = !dropped;
  problems_.note(kRollbackTopic,
                 dropped ? Status{}
                         : fail(dropped.error().message + ": the next start would roll back",
                                "remove " + pending_path()));
}

/// Another program has saved a file after the last rename. Its content is in force and stays.
Status Changes::give_way_to_save() {
  const config::Digests now = digests_of(settings_->files());
  record("save", "");
  give_way();
  return fail("a file in " + directory_ + " was saved at the same moment; policy digest " +
                  short_text(now) + " is in force",
              "'trirectl policy diff' and the files show what that is");
}

Status Changes::check_idle() const {
  if (unusable_) {
    return fail("changes need the state directory: " + unusable_->message,
                unusable_->hint.empty()
                    ? "the daemon must be able to write there; see 'systemctl status trireme'"
                    : unusable_->hint);
  }
  if (foreign_) {
    return tl::unexpected(*foreign_);
  }
  if (!pending_) {
    return {};
  }
  if (pending_->undoing) {
    return fail("a rollback is not complete", "'trirectl status' shows the problem");
  }
  const Waiting now = *waiting();
  return fail(
      fmt::format("the change{} to policy digest {} waits for confirmation until "
                  "{:%Y-%m-%dT%H:%M:%SZ} ({} s)",
                  user_text(now.user), short_text(now.files),
                  fmt::gmtime(std::chrono::system_clock::to_time_t(now.until)), now.left.count()),
      "run 'trirectl policy confirm' or 'trirectl policy rollback' first");
}

std::optional<Changes::Waiting> Changes::waiting() const {
  if (!pending_ || pending_->undoing || pending_->deadline.count() == 0) {
    return std::nullopt;
  }
  const auto left = std::max(pending_->deadline - clock_(), std::chrono::nanoseconds(0));
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(left);
  return Waiting{.files = digests_of(pending_->after),
                 .before = digests_of(pending_->before),
                 .user = pending_->user,
                 .left = seconds,
                 .until = std::chrono::system_clock::now() + seconds};
}

Result<config::FileSet> Changes::read_staged(const Request& request) const {
  const std::string& name = request.staged;
  if (name.empty() || name.starts_with('.') || name.find('/') != std::string::npos) {
    return fail("invalid name '" + name + "' of staged files");
  }
  const std::string place = staged_dir(state_dir_) + "/" + name;
  if (std::error_code error; !fs::is_directory(place, error)) {
    return fail("there are no staged files in " + place,
                "nothing has changed; run the command again");
  }
  const config::Configuration staged = config::load_for(directory_, place);
  if (!staged.valid()) {
    return fail(errors_of(staged), "nothing has changed");
  }
  config::FileSet files = files_of(staged);
  if (digests_of(files) != request.files) {
    return fail("the staged files in " + place + " are not the ones that were compared",
                "nothing has changed; run the command again");
  }
  for (auto* part : {&files.policy, &files.identity}) {
    for (config::Source& source : *part) {
      source.mode = 0;  // that of the copy, which is for root alone
    }
  }
  return files;
}

Status Changes::apply(const Request& request) {
  if (Status idle = check_idle(); !idle) {
    return idle;
  }
  kept_.reset();
  if (request.confirm.count() < 0 || request.confirm > kLongestWait) {
    return fail("the time to confirm must be at most 24 hours");
  }
  if (digests_of(settings_->files()) != request.over) {
    return fail("the configuration in force has changed since the comparison",
                "nothing else has changed; run the command again");
  }
  const auto files = read_staged(request);
  if (!files) {
    return tl::unexpected(files.error());
  }
  if (digests_of(config::read_files(directory_)) != request.over) {
    return fail("the files in " + directory_ + " are not the ones in force",
                "'trirectl reload' loads them or reports their errors; 'trirectl policy rollback " +
                    short_text(request.over) + "' restores the ones in force");
  }
  if (Status installed = install(*files, "apply", request.user, request.confirm); !installed) {
    return installed;
  }
  if (!waiting()) {
    kept_ = request.files;
  }
  counts_["applied"]++;
  return {};
}

/// Replaces the files on disk, loads them, and waits for a confirmation if `confirm` is not 0.
Status Changes::install(const config::FileSet& files, const std::string& how,
                        const std::string& user, std::chrono::seconds confirm) {
  const config::FileSet before = settings_->files();
  const config::Digests was = digests_of(before);
  const config::FileSet disk = config::read_files(directory_);
  const bool is_loaded = digests_of(disk) == was;
  if (is_loaded && digests_of(files) == was && settings_->errors().empty()) {
    return {};
  }
  if (Status possible = config::check_replaceable(directory_); !possible) {
    return possible;
  }
  const auto is_saved = [this, &was] {
    return std::ranges::find(history_.entries(), was, &config::History::Entry::digests) !=
           history_.entries().end();
  };
  if (!is_saved()) {
    record("save", "");  // which has failed before
  }
  if (!is_saved()) {
    return fail("the configuration in force cannot be saved in the history",
                "'trirectl status' shows the problem; nothing has changed");
  }
  // The files as they are now: their modes can have changed since they were loaded.
  if (Status kept = is_loaded ? history_.keep(was, disk) : keep_replaced(disk); !kept) {
    return kept;
  }
  const OwnReload own(*this);
  pending_ = PendingChange{.before = is_loaded ? disk : before, .after = files, .user = user};
  if (Status placed = put_in_force(files, digests_of(disk)); !placed) {
    return placed;
  }
  record(how, user);
  if (confirm.count() > 0) {
    pending_->deadline = clock_() + confirm;
  } else if (Status dropped = drop_pending(); !dropped) {
    std::ignore = roll_back("");
    return dropped;
  }
  std::error_code error;
  fs::remove_all(staged_dir(state_dir_), error);
  spdlog::info("policy {}{}: digest {} in place of {}{}", how, user_text(user),
               short_text(digests_of(files)), short_text(was),
               confirm.count() > 0
                   ? fmt::format("; rolled back in {} unless confirmed",
                                 counted(static_cast<std::uint64_t>(confirm.count()), "second"))
                   : "");
  return {};
}

/// The part of install() between the record of the change and the new policy in force. `over`: of
/// the files on disk, of which there is a copy.
Status Changes::put_in_force(const config::FileSet& files, const config::Digests& over) {
  is_stale_ = false;  // this change replaces the record, or removes it
  if (Status written = write_pending(disk_, pending_path(), directory_, *pending_); !written) {
    if (is_damaged_) {
      pending_.reset();  // the record that was there stays
    } else if (!drop_pending()) {
      pending_->undoing = true;  // tick() tries again
    }
    return written;
  }
  is_damaged_ = false;
  problems_.note(kRollbackTopic, {});  // of an earlier change
  bool was_saved = false;
  const auto is_unchanged = [&] {
    Status unchanged = check_unchanged(over);
    was_saved = !unchanged;
    return unchanged;
  };
  if (Status placed = config::replace_files(disk_, directory_, files, is_unchanged); !placed) {
    if (was_saved) {
      give_way();
      return fail(placed.error().message, "nothing else has changed; run the command again");
    }
    abandon(false);
    return placed;
  }
  if (Status loaded = settings_->reload_written(); !loaded) {
    abandon(true);
    return loaded;
  }
  return digests_of(settings_->files()) == digests_of(files) ? Status{} : give_way_to_save();
}

void Changes::record(const std::string& how, const std::string& user) {
  if (unusable_) {
    problems_.note(kHistoryTopic, tl::unexpected(*unusable_));
    return;
  }
  const config::FileSet files = settings_->files();
  const Status added = history_.add({.digests = digests_of(files),
                                     .time = std::chrono::system_clock::now(),
                                     .user = user,
                                     .how = how,
                                     .rules = settings_->policy()->rules.size()},
                                    files);
  problems_.note(kHistoryTopic, added);
  if (added) {
    recorded_ = digests_of(files);
  }
}

/// A save that is valid is the last word: it ends a wait for confirmation, and is not rolled back.
void Changes::note_load() {
  if (busy_ || settings_ == nullptr || !settings_->errors().empty()) {
    return;
  }
  set_record_aside();
  const config::Digests now = digests_of(settings_->files());
  if (now == recorded_) {
    return;
  }
  if (waiting() && now != digests_of(pending_->after)) {
    spdlog::warn(
        "files in {} were saved while the change{} waited for confirmation: the saved files are in "
        "force, and nothing will be rolled back",
        directory_, user_text(pending_->user));
    give_way();
  }
  record("save", "");
}

}  // namespace trireme::daemon
