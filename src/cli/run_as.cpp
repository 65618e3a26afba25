// SPDX-License-Identifier: Apache-2.0
#include "run_as.hpp"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <charconv>

// trirun has one thread.
// NOLINTBEGIN(concurrency-mt-unsafe)

namespace trireme::cli {
namespace {

/// Parses a uid or gid. 2^32 - 1 is not valid: setresuid(2) takes it as "leave unchanged".
std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end || value == UINT32_MAX) {
    return std::nullopt;
  }
  return value;
}

std::vector<gid_t> groups_of(const passwd& entry, gid_t primary) {
  int count = 64;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  while (::getgrouplist(entry.pw_name, primary, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

Result<gid_t> find_group(const std::string& text) {
  if (const auto gid = number(text)) {
    return *gid;
  }
  const group* entry = ::getgrnam(text.c_str());
  if (entry == nullptr) {
    return fail("unknown group '" + text + "'", "use a name or number from 'getent group'");
  }
  return entry->gr_gid;
}

}  // namespace

Result<RunAs> resolve_run_as(const std::optional<std::string>& user,
                             const std::optional<std::string>& group) {
  RunAs run_as;
  if (group) {
    const auto gid = find_group(*group);
    if (!gid) {
      return tl::unexpected(gid.error());
    }
    run_as.gid = *gid;
    run_as.groups = {*gid};
  }
  if (!user) {
    return run_as;
  }
  const auto uid = number(*user);
  const passwd* entry = uid ? ::getpwuid(*uid) : ::getpwnam(user->c_str());
  if (entry == nullptr && !uid) {
    return fail("unknown user '" + *user + "'", "use a name or number from 'getent passwd'");
  }
  if (entry == nullptr && !group) {
    return fail("user " + *user + " has no passwd entry, so its group is unknown",
                "add --gid GROUP");
  }
  run_as.uid = entry != nullptr ? entry->pw_uid : *uid;
  if (entry != nullptr) {
    run_as.gid = run_as.gid.value_or(entry->pw_gid);
    run_as.groups = groups_of(*entry, *run_as.gid);
  }
  return run_as;
}

Status become(const RunAs& run_as) {
  const bool same_user = !run_as.uid || (*run_as.uid == ::getuid() && *run_as.uid == ::geteuid());
  const bool same_group = !run_as.gid || (*run_as.gid == ::getgid() && *run_as.gid == ::getegid());
  if (same_user && same_group && ::geteuid() != 0) {
    return {};
  }
  if (run_as.gid && ::setgroups(run_as.groups.size(), run_as.groups.data()) != 0) {
    return fail_errno("cannot set the groups of --uid or --gid");
  }
  if (run_as.gid && ::setresgid(*run_as.gid, *run_as.gid, *run_as.gid) != 0) {
    return fail_errno("cannot switch to group " + std::to_string(*run_as.gid));
  }
  if (run_as.uid && ::setresuid(*run_as.uid, *run_as.uid, *run_as.uid) != 0) {
    return fail_errno("cannot switch to user " + std::to_string(*run_as.uid));
  }
  return {};
}

}  // namespace trireme::cli

// NOLINTEND(concurrency-mt-unsafe)
