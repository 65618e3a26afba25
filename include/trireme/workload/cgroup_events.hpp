// SPDX-License-Identifier: Apache-2.0
// Reports the creation and removal of cgroups to every source, and quarantines the strict slice.
// Uses one inotify descriptor on the event loop.
//
// Watched directories: the root, every *.slice below a watched directory, and the parents that
// sources request. The inside of a scope or a service is never watched, so each workload costs only
// one map entry. A directory's watch is added before its children are listed, so that no creation
// is lost; the map of known directories prevents duplicate reports.
//
// Watches count against the user's limits (fs.inotify.*), which root in any container without a
// user namespace shares. Directories that cannot be watched are listed periodically until they can
// be.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/base/event.hpp"
#include "trireme/workload/source.hpp"

namespace trireme::workload {

class CgroupEvents {
 public:
  /// `strict_slice` ("/trireme.slice") is quarantined as a whole: a cgroup below it that no source
  /// enrolls is denied, because the deepest enrolled cgroup decides. All references must outlive
  /// this object. Errors: those of the event loop.
  [[nodiscard]] static Result<std::unique_ptr<CgroupEvents>> create(sd_event* loop,
                                                                    const kernel::CgroupTree& tree,
                                                                    Registry& registry,
                                                                    Enforcement& enforcement,
                                                                    std::string strict_slice);
  CgroupEvents(const CgroupEvents&) = delete;
  CgroupEvents& operator=(const CgroupEvents&) = delete;

  /// A new cgroup is offered to the sources in the order in which they were added, until one
  /// accepts it. Must be called before start().
  void add_source(Source& source);
  /// Also reports the children of `parent` ("/docker"), now and whenever it is created again. May
  /// be called before or after start(); after it, existing children are offered at once.
  void watch(const std::string& parent);
  /// Offers every existing directory to the sources, quarantines the strict slice, and reports
  /// changes from then on. Errors: those of the event loop.
  [[nodiscard]] Status start();
  /// Compares all known directories with the existing ones and reports the differences. For use
  /// after lost events.
  void rescan();
  /// Every known directory below watched parents, in path order, for a source whose settings
  /// changed.
  [[nodiscard]] std::vector<std::string> known() const;
  /// Why some directories cannot be watched and are polled instead; nullopt if all are watched.
  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  [[nodiscard]] const std::string& strict_slice() const { return strict_slice_; }

 private:
  CgroupEvents(sd_event* loop, const kernel::CgroupTree& tree, kernel::CgroupWatch watch,
               Registry& registry, Enforcement& enforcement, std::string strict_slice);
  void read_events();
  [[nodiscard]] bool is_parent(const std::string& path) const;
  void watch_and_list(const std::string& path);
  [[nodiscard]] Status follow();
  void list(const std::string& path);
  void miss(const std::string& path, const Error& error);
  void poll();
  void poll_missed();
  void born(const std::string& path);
  void gone(const std::string& path);
  void deny_strict(std::uint64_t id);

  sd_event* loop_;
  const kernel::CgroupTree& tree_;
  kernel::CgroupWatch watch_;
  Registry& registry_;
  Enforcement& enforcement_;
  std::string strict_slice_;
  std::vector<Source*> sources_;
  std::set<std::string> asked_;
  std::unordered_map<std::string, std::uint64_t> known_;  // path -> inode number
  event::Io readable_;
  event::Timer poll_;
  std::set<std::string> missed_;  // directories that should be watched but are polled
  std::optional<Error> problem_;
  bool started_ = false;
};

}  // namespace trireme::workload
