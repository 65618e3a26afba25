// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/grants.hpp"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

namespace trireme::systemd {
namespace {

/// Enough for the entry of a large group. A larger entry is treated as unknown.
constexpr std::size_t kEntryBytes = 1U << 17U;
constexpr std::chrono::seconds kAgain(5);

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

}  // namespace

void LaunchGrants::configure(std::shared_ptr<const config::Host> host) {
  host_ = std::move(host);
  ids_.assign(host_->launches.size(), std::nullopt);
  resolve();
}

void LaunchGrants::resolve() {
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    const config::LaunchGrant& grant = host_->launches[i];
    if (!ids_[i]) {
      ids_[i] = grant.user.empty() ? group_id(grant.group) : user_id(grant.user);
    }
  }
  resolved_ = std::chrono::steady_clock::now();
}

Status LaunchGrants::permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups,
                             const policy::LabelSet& labels) {
  const bool is_complete = std::ranges::all_of(ids_, [](const auto& id) { return id.has_value(); });
  if (!is_complete && resolved_ + kAgain <= std::chrono::steady_clock::now()) {
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

bool property_granted(const std::string& name) {
  static constexpr std::array kGranted = {"Description", "CPUQuota", "CPUWeight",     "MemoryMax",
                                          "MemoryHigh",  "TasksMax", "RuntimeMaxSec", "IOWeight"};
  return std::ranges::find(kGranted, name) != kGranted.end();
}

std::string unit_prefix(std::uint32_t uid) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  std::string buffer(kEntryBytes, '\0');
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    const std::string name = found->pw_name;
    if (!name.empty() && name.size() <= 64 &&
        name.find_first_not_of(kLetters) == std::string::npos) {
      return name;
    }
  }
  return "uid-" + std::to_string(uid);
}

}  // namespace trireme::systemd
