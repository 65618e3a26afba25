// SPDX-License-Identifier: Apache-2.0
// Changes that are confirmed or rolled back.
#include <spdlog/spdlog.h>

#include <filesystem>
#include <system_error>

#include "changes.hpp"

namespace trireme::daemon {

Status Changes::confirm(const std::string& user) {
  if (!waiting()) {
    return kept_ == digests_of(settings_->files())
               ? Status{}
               : fail("no change waits for confirmation",
                      "'trirectl policy history' shows what is in force and what was rolled back");
  }
  if (clock_() >= pending_->deadline) {
    const std::string before = short_text(digests_of(pending_->before));
    tick();
    return fail("too late: the time to confirm has passed",
                pending_ ? "the rollback is not complete: 'trirectl status' shows the problem"
                         : "the change is rolled back to policy digest " + before);
  }
  const config::Digests files = digests_of(pending_->after);
  if (Status dropped = drop_pending(); !dropped) {
    return fail("cannot confirm: " + dropped.error().message, "try again before the time passes");
  }
  kept_ = files;
  counts_["confirmed"]++;
  spdlog::info("policy digest {} confirmed{}", short_text(files), user_text(user));
  return {};
}

Status Changes::rollback(const std::string& digits, const std::string& user) {
  if (waiting()) {
    if (!config::History::matches(digests_of(pending_->before), digits)) {
      return check_idle();
    }
    counts_["rolled_back"]++;
    return roll_back(user);
  }
  if (Status idle = check_idle(); !idle) {
    return idle;
  }
  const config::Digests was = digests_of(settings_->files());
  const auto entry = find_entry(digits, was);
  if (!entry) {
    return tl::unexpected(entry.error());
  }
  const auto files = history_.files(*entry);
  if (!files) {
    return tl::unexpected(files.error());
  }
  config::Configuration configuration = config::parse(files->policy, files->identity);
  config::complete(directory_, configuration);
  if (!configuration.valid()) {
    return fail(errors_of(configuration),
                "the configuration of the history is not valid any more; nothing has changed");
  }
  if (Status installed = install(*files, "rollback", user, {}); !installed) {
    return installed;
  }
  if (entry->digests != was) {
    if (const Status noted = history_.note_rollback(was); !noted) {
      problems_.note(kHistoryTopic, noted);
    }
  }
  counts_["rolled_back"]++;
  return {};
}

/// What rollback() restores.
Result<config::History::Entry> Changes::find_entry(const std::string& digits,
                                                   const config::Digests& now) const {
  if (!digits.empty()) {
    return history_.find(digits);
  }
  const auto before = history_.before(now);
  if (!before) {
    return fail("the history has no configuration before the one in force",
                "'trirectl policy history' lists it");
  }
  return *before;
}

void Changes::tick() {
  if (is_stale_) {
    give_way();
  }
  if (!pending_) {
    return;
  }
  if (pending_->undoing) {
    std::ignore = finish_rollback();
  } else if (pending_->deadline.count() != 0 && clock_() >= pending_->deadline) {
    spdlog::warn("policy digest {}{} was not confirmed in time",
                 short_text(digests_of(pending_->after)), user_text(pending_->user));
    counts_["expired"]++;
    std::ignore = roll_back("");
  }
}

/// The record is there, so a change was not completed or not confirmed, and what is on disk can be
/// its files. What was in force before a change is in the history. The files on disk and the record
/// stay as they are, so that the next start decides in the same way.
std::optional<Changes::Instead> Changes::start_without_record(const Error& damage) {
  is_damaged_ = true;
  const config::Digests disk = digests_of(config::read_files(directory_));
  const auto& entries = history_.entries();
  // In force when the daemon ended, and not by a change that can wait for confirmation.
  const bool is_settled =
      !entries.empty() && entries.front().digests == disk && entries.front().how != "apply";
  const auto entry = is_settled ? std::nullopt : history_.before(disk);
  const auto files = entry ? history_.files(*entry) : fail("the history has none");
  if (files && config::parse(files->policy, files->identity).valid()) {
    const Error reason{
        damage.message + "; a change was not completed or not confirmed: policy digest " +
            short_text(entry->digests) + " is in force instead of the files in " + directory_,
        "check these files; 'trirectl reload' puts them in force, 'trirectl policy rollback " +
            short_text(entry->digests) + "' restores the ones in force"};
    problems_.note(kRollbackTopic, tl::unexpected(reason));
    return Instead{.files = *files, .reason = reason};
  }
  problems_.note(kRollbackTopic,
                 fail(damage.message + "; the files in " + directory_ + " are used as they are",
                      "check that they are the ones you want, then run 'trirectl reload'"));
  return std::nullopt;
}

/// Somebody has loaded the files on disk: they are the ones that are wanted.
void Changes::set_record_aside() {
  if (!is_damaged_) {
    return;
  }
  const Status renamed = disk_.rename(pending_path(), pending_path() + ".damaged");
  is_damaged_ = !renamed;
  problems_.note(kRollbackTopic, renamed);
}

Status Changes::roll_back(const std::string& user) {
  pending_->undoing = true;
  pending_->undone_by = user;
  return finish_rollback();
}

/// Saves files that are about to be overwritten although nobody has loaded them.
Status Changes::keep_replaced(const config::FileSet& files) const {
  const std::string place = state_dir_ + "/replaced";
  std::error_code error;
  std::filesystem::remove_all(place, error);
  Status kept = disk_.make_directory(place, 0700);
  if (kept) {
    kept = write_files(disk_, place, files);
  }
  if (kept) {
    spdlog::warn("the files in {} were changed and not in force; they are saved in {}", directory_,
                 place);
  }
  return kept;
}

/// A file that somebody saves just now must not be overwritten without a copy.
Status Changes::check_unchanged(const config::Digests& since) const {
  return digests_of(config::read_files(directory_)) == since
             ? Status{}
             : fail("a file in " + directory_ + " was saved at the same moment");
}

/// A confirmation that failed can have removed the record, without which a crash while the files
/// are restored would leave some of them old and some new.
Status Changes::keep_record(const config::FileSet& disk) const {
  std::error_code error;
  const bool is_needed = digests_of(disk) != digests_of(pending_->before) &&
                         !std::filesystem::exists(pending_path(), error);
  return is_needed ? write_pending(disk_, pending_path(), directory_, *pending_) : Status{};
}

/// Puts the old files on disk. What is there and neither old nor new is copied before.
Status Changes::restore_files() {
  Status restored = config::check_replaceable(directory_);
  const config::FileSet disk = config::read_files(directory_);
  if (restored) {
    restored = keep_record(disk);
  }
  if (restored && !is_made_of(disk, *pending_)) {
    restored = keep_replaced(disk);
    if (restored) {
      pending_->saved = disk;  // once: the rollback may be repeated every second
    }
  }
  if (restored) {
    restored = config::replace_files(disk_, directory_, pending_->before,
                                     [&] { return check_unchanged(digests_of(disk)); });
  }
  if (!restored) {
    return fail("cannot restore the files in " + directory_ + ": " + restored.error().text(),
                "the policy before the change is in force; free space or repair the file system: "
                "the daemon tries again every second");
  }
  return {};
}

/// Restores the files and puts them in force. If they cannot be written, they are put in force all
/// the same, and tick() tries again.
Status Changes::finish_rollback() {
  const OwnReload own(*this);
  const config::FileSet before = pending_->before;
  const auto is_in_force = [&] { return digests_of(settings_->files()) == digests_of(before); };
  if (const Status restored = restore_files(); !restored) {
    problems_.note(kRollbackTopic, restored);
    if (!is_in_force()) {
      std::ignore = settings_->enforce_instead(before, restored.error());
    }
    return restored;
  }
  // In force and without errors: only drop_pending() has failed before.
  Status loaded =
      is_in_force() && settings_->errors().empty() ? Status{} : settings_->reload_written();
  if (!loaded && !is_in_force()) {
    if (loaded = settings_->enforce_instead(before, loaded.error()); !loaded) {
      problems_.note(kRollbackTopic, loaded);
      return loaded;
    }
  }
  if (!is_in_force()) {
    Status ended = give_way_to_save();
    spdlog::warn("the rollback has ended: {}", ended.error().text());
    return ended;
  }
  const std::string user = pending_->undone_by;
  if (recorded_ != digests_of(before)) {
    record_rollback(digests_of(pending_->after), user);
  }
  Status dropped = drop_pending();
  problems_.note(kRollbackTopic, dropped);
  if (dropped) {
    spdlog::warn("rolled back{} to policy digest {}", user_text(user),
                 short_text(digests_of(before)));
  }
  return dropped;
}

/// Records what is in force as a rollback from `undone`, to which no further rollback leads.
void Changes::record_rollback(const config::Digests& undone, const std::string& user) {
  const Status noted = history_.note_rollback(undone);
  record("rollback", user);
  if (!noted) {
    problems_.note(kHistoryTopic, noted);  // record() has removed the problem if it could write
  }
}

/// Undoes a change that has not come into force.
void Changes::abandon(bool reload) {
  pending_->undoing = true;
  Status undone = restore_files();
  if (undone && reload) {
    std::ignore = settings_->reload_written();  // also clears the errors of the failed load
  }
  if (undone) {
    undone = drop_pending();
  }
  problems_.note(kRollbackTopic, undone);
}

}  // namespace trireme::daemon
