// SPDX-License-Identifier: Apache-2.0
#include "pending_change.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "trireme/base/file.hpp"
#include "trireme/base/json.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

constexpr std::size_t kMostPendingBytes = std::size_t{512} << 20U;

/// However the paths are written, and through symbolic links.
bool is_same_place(const std::string& one, const std::string& other) {
  std::error_code error;
  return one == other || (std::filesystem::equivalent(one, other, error) && !error) ||
         (std::filesystem::path(one) / "").lexically_normal() ==
             (std::filesystem::path(other) / "").lexically_normal();
}

/// Throws json::exception if a key is missing or has another type.
Result<PendingChange> pending_of(const json& value) {
  auto before = config::file_set(value.at("before"));
  auto after = config::file_set(value.at("after"));
  if (!before || !after) {
    return tl::unexpected((before ? after : before).error());
  }
  return PendingChange{.before = std::move(*before),
                       .after = std::move(*after),
                       .user = value.at("user").get<std::string>()};
}

}  // namespace

Result<FoundChange> read_pending(const std::string& path, const std::string& directory) {
  const auto text = read_file(path, kMostPendingBytes);
  if (!text) {
    if (text.error().code == ENOENT || text.error().code == ENOTDIR) {
      return FoundChange{};
    }
    return tl::unexpected(text.error());
  }
  const auto value = parse_json(*text);
  if (!value) {
    return fail("cannot read " + path + ": " + value.error().message);
  }
  try {
    if (auto of = value->at("directory").get<std::string>(); !is_same_place(of, directory)) {
      return FoundChange{.change = std::nullopt, .other_directory = std::move(of)};
    }
    auto pending = pending_of(*value);
    if (!pending) {
      return fail("cannot read " + path + ": " + pending.error().message);
    }
    return FoundChange{.change = std::move(*pending)};
  } catch (const json::exception& exception) {
    return fail("cannot read " + path + ": " + exception.what());
  }
}

Status write_pending(const Disk& disk, const std::string& path, const std::string& directory,
                     const PendingChange& pending) {
  const json value = {{"directory", directory},
                      {"user", pending.user},
                      {"before", to_json(pending.before)},
                      {"after", to_json(pending.after)}};
  return disk.replace(path, value.dump(), 0600);
}

bool is_made_of(const config::FileSet& files, const PendingChange& pending) {
  std::set<std::pair<std::string, std::string>> known;
  for (const auto* set : {&pending.before, &pending.after, &pending.saved}) {
    for (const auto* part : {&set->policy, &set->identity}) {
      for (const config::Source& source : *part) {
        known.emplace(source.file, source.content);
      }
    }
  }
  const auto is_known = [&known](const config::Source& source) {
    return known.contains({source.file, source.content});
  };
  return std::ranges::all_of(files.policy, is_known) &&
         std::ranges::all_of(files.identity, is_known);
}

}  // namespace trireme::daemon
