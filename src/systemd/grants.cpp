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

/// Enough for an entry of a large group; what does not fit is as good as unknown.
constexpr std::size_t kEntryBytes = 1U << 17U;

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
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

template <typename Ids, typename Lookup>
std::optional<std::uint32_t> resolve(Ids& known, const std::string& name, Lookup lookup) {
  if (const auto found = known.find(name); found != known.end()) {
    return found->second;
  }
  const std::optional<std::uint32_t> id = lookup(name);
  if (id) {
    known[name] = *id;
  }
  return id;
}

}  // namespace

void LaunchGrants::configure(std::shared_ptr<const policy::Identity> identity) {
  identity_ = std::move(identity);
  users_.clear();
  groups_.clear();
}

Status LaunchGrants::permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups, const policy::LabelSet& labels) const {
  bool known = false;
  for (const policy::LaunchGrant& grant : identity_ ? identity_->launches : std::vector<policy::LaunchGrant>()) {
    const auto id = grant.user.empty() ? resolve(groups_, grant.group, group_id) : resolve(users_, grant.user, user_id);
    const bool ours = id && (grant.user.empty() ? std::ranges::find(groups, *id) != groups.end() : *id == uid);
    known = known || ours;
    if (ours && grant.permits(labels)) {
      return {};
    }
  }
  if (!known) {
    return fail("user " + unit_prefix(uid) + " may not start workloads", "a [[launch]] entry of identity.toml would let it");
  }
  return fail("user " + unit_prefix(uid) + " may not start workloads with the labels " + labels.text(),
              "no single [[launch]] entry of identity.toml covers all of them");
}

bool property_granted(const std::string& name) {
  static constexpr std::array kGranted = {"Description", "CPUQuota", "CPUWeight",     "MemoryMax",
                                          "MemoryHigh",  "TasksMax", "RuntimeMaxSec", "IOWeight"};
  return std::ranges::find(kGranted, name) != kGranted.end();
}

std::string unit_prefix(std::uint32_t uid) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  std::string buffer(kEntryBytes, '\0');
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    const std::string name = found->pw_name;
    if (!name.empty() && name.size() <= 64 && name.find_first_not_of(kLetters) == std::string::npos) {
      return name;
    }
  }
  return "uid-" + std::to_string(uid);
}

}  // namespace trireme::systemd
