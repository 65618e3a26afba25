// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/grants.hpp"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "trireme/base/users.hpp"

namespace trireme::systemd {
namespace {

/// Enough for the entry of a large group. A larger entry is treated as unknown.
constexpr std::size_t kEntryBytes = 1U << 17U;
constexpr std::chrono::seconds kAgain(5);
/// The pause after a lookup, in multiples of the time that it took.
constexpr int kRests = 9;
/// Names of users that are remembered.
constexpr std::size_t kMostNames = 4096;

/// The earliest time of the next lookup after one that has just failed.
std::chrono::steady_clock::time_point after_pause(std::chrono::steady_clock::time_point began) {
  using Clock = std::chrono::steady_clock;
  const auto now = Clock::now();
  return now + std::max<Clock::duration>(kAgain, kRests * (now - began));
}

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

std::optional<std::uint32_t> user_id(const std::string& name) {
  std::string buffer(kEntryBytes, '\0');
  passwd entry{};
  passwd* found = nullptr;
  const int rc = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return rc == 0 && found != nullptr ? std::optional<std::uint32_t>(found->pw_uid) : number(name);
}

std::optional<std::uint32_t> group_id(const std::string& name) {
  std::string buffer(kEntryBytes, '\0');
  group entry{};
  group* found = nullptr;
  const int rc = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return rc == 0 && found != nullptr ? std::optional<std::uint32_t>(found->gr_gid) : number(name);
}

std::optional<std::string> user_name(std::uint32_t uid) {
  std::string buffer(kEntryBytes, '\0');
  passwd entry{};
  passwd* found = nullptr;
  const int rc = ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
  return rc == 0 && found != nullptr ? std::optional<std::string>(found->pw_name) : std::nullopt;
}

}  // namespace

NameService host_names() {
  return {.user_id = user_id, .group_id = group_id, .user_name = user_name};
}

void LaunchGrants::configure(std::shared_ptr<const config::Host> host) {
  host_ = std::move(host);
  ids_.assign(host_->launches.size(), std::nullopt);
  names_.clear();
  resolve();
}

void LaunchGrants::resolve() {
  const auto began = Clock::now();
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    const config::LaunchGrant& grant = host_->launches[i];
    if (!ids_[i]) {
      ids_[i] = grant.user.empty() ? service_.group_id(grant.group) : service_.user_id(grant.user);
    }
  }
  resolve_again_ = after_pause(began);
}

Status LaunchGrants::permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups,
                             const policy::LabelSet& labels) {
  const bool is_complete = std::ranges::all_of(ids_, [](const auto& id) { return id.has_value(); });
  if (!is_complete && resolve_again_ <= Clock::now()) {
    resolve();
  }
  bool known = false;
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    const config::LaunchGrant& grant = host_->launches[i];
    const bool ours =
        ids_[i] && (grant.user.empty() ? std::ranges::find(groups, *ids_[i]) != groups.end()
                                       : *ids_[i] == uid);
    known = known || ours;
    if (ours && grant.permits(labels)) {
      return {};
    }
  }
  if (!known) {
    return fail("user " + std::to_string(uid) + " is not allowed to start workloads",
                "add a [[launch]] entry to identity.toml");
  }
  return fail("user " + std::to_string(uid) +
                  " is not allowed to start workloads with the labels " + labels.text(),
              "no single [[launch]] entry of identity.toml covers all of these labels");
}

std::string LaunchGrants::unit_prefix(std::uint32_t uid) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  const std::string name = name_of(uid).value_or("");
  const bool is_valid =
      !name.empty() && name.size() <= 64 && name.find_first_not_of(kLetters) == std::string::npos;
  return is_valid ? name : "uid-" + std::to_string(uid);
}

std::optional<std::string> LaunchGrants::name_of(std::uint32_t uid) {
  if (auto local = local_user(uid)) {
    return local;
  }
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    const std::string& user = host_->launches[i].user;
    if (!user.empty() && ids_[i] == uid && !number(user)) {
      return user;
    }
  }
  if (const auto known = names_.find(uid); known != names_.end()) {
    return known->second;
  }
  const auto began = Clock::now();
  if (began < ask_again_) {
    return std::nullopt;
  }
  auto name = service_.user_name(uid);
  if (!name) {
    ask_again_ = after_pause(began);
    return std::nullopt;
  }
  if (names_.size() >= kMostNames) {
    names_.clear();
  }
  names_[uid] = *name;
  return name;
}

bool property_granted(const std::string& name) {
  static constexpr std::array kGranted = {"Description", "CPUQuota", "CPUWeight",     "MemoryMax",
                                          "MemoryHigh",  "TasksMax", "RuntimeMaxSec", "IOWeight"};
  return std::ranges::find(kGranted, name) != kGranted.end();
}

}  // namespace trireme::systemd
