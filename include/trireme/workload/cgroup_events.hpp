// SPDX-License-Identifier: Apache-2.0
// Births and deaths of cgroups for every source, and the strict slice: one inotify descriptor on
// the event loop.
//
// Watched are the root, every *.slice below watched directories, and the parents that sources ask
// for; never the inside of a scope or a service, so thousands of workloads cost one map entry each.
// A directory's watch is added before its children are listed: no birth is lost, none is told
// twice.
//
// Watches count against limits of this user (fs.inotify.*), which root in any container without a
// user namespace uses up as well. What cannot be watched is listed again and again until it can be.
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
  /// `strict_slice` ("/trireme.slice") is quarantined as a whole: what no source enrols below it
  /// inherits the denial, because the deepest enrolled cgroup wins. All references outlive this
  /// object. Errors: the event loop.
  [[nodiscard]] static Result<std::unique_ptr<CgroupEvents>> create(sd_event* loop,
                                                                    const kernel::CgroupTree& tree,
                                                                    Registry& registry,
                                                                    Enforcement& enforcement,
                                                                    std::string strict_slice);
  CgroupEvents(const CgroupEvents&) = delete;
  CgroupEvents& operator=(const CgroupEvents&) = delete;

  /// Sources are offered a birth in the order they were added, until one takes it. Before start().
  void add_source(Source& source);
  /// Also announces the children of `parent`, now and whenever it is born again ("/docker"). Before
  /// start() or later: then children that are there already are offered at once.
  void watch(const std::string& parent);
  /// Offers every directory that is there, denies the strict slice and announces from then on.
  /// Errors: the event loop.
  [[nodiscard]] Status start();
  /// Compares everything known with what is there: after lost events, or when a source wants to be
  /// offered nothing less than all.
  void rescan();
  /// Every known directory below watched parents, in path order: what a source with new settings
  /// looks through.
  [[nodiscard]] std::vector<std::string> known() const;
  /// Why some births are only found by listing, where that is so.
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
  std::set<std::string> missed_;  // directories that are to be watched, and are not
  std::optional<Error> problem_;
  bool started_ = false;
};

}  // namespace trireme::workload
