// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/history.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>

#include "trireme/base/file.hpp"
#include "trireme/base/json.hpp"
#include "trireme/base/lower_case.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Seconds = std::chrono::seconds;

constexpr std::size_t kMostBytes = std::size_t{256} << 20U;  // of the files of one entry
constexpr std::size_t kListed = 5;                           // candidates in an error
constexpr const char* kIndex = "/index.json";
constexpr int kMostDamaged = 10;  // directories set aside

json entry_json(const History::Entry& entry) {
  return {{"digest", entry.digests.policy},
          {"identity_digest", entry.digests.identity},
          {"time", std::chrono::duration_cast<Seconds>(entry.time.time_since_epoch()).count()},
          {"user", entry.user},
          {"how", entry.how},
          {"rules", entry.rules},
          {"rolled_back", entry.rolled_back}};
}

History::Entry entry_of(const json& value) {
  return {
      .digests = {value.at("digest").get<std::string>(),
                  value.at("identity_digest").get<std::string>()},
      .time = std::chrono::system_clock::time_point(Seconds(value.at("time").get<Seconds::rep>())),
      .user = value.at("user").get<std::string>(),
      .how = value.at("how").get<std::string>(),
      .rules = value.at("rules").get<std::size_t>(),
      .rolled_back = value.at("rolled_back").get<bool>()};
}

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Result<std::vector<History::Entry>> read_index(const std::string& path) {
  const auto text = read_file(path);
  if (!text) {
    return text.error().code == ENOENT ? Result<std::vector<History::Entry>>{}
                                       : tl::unexpected(text.error());
  }
  const auto value = parse_json(*text);
  if (!value) {
    return fail("cannot read " + path + ": " + value.error().message);
  }
  std::vector<History::Entry> entries;
  try {
    for (const json& item : *value) {
      entries.push_back(entry_of(item));
    }
  } catch (const json::exception& exception) {
    return fail("cannot read " + path + ": " + exception.what());
  }
  for (const History::Entry& entry : entries) {
    if (!is_digest(entry.digests.policy) || !is_digest(entry.digests.identity)) {
      return fail("cannot read " + path + ": invalid digest");
    }
  }
  return entries;
}

}  // namespace

std::string History::path_of(const Digests& digests) const {
  return directory_ + "/" + digests.policy + "-" + digests.identity + ".json";
}

Status History::open() {
  entries_.clear();
  damage_.reset();
  if (Status made = disk_.make_directory(directory_, 0700); !made) {
    return made;
  }
  auto entries = read_index(directory_ + kIndex);
  if (!entries) {
    return set_aside(entries.error());
  }
  entries_ = std::move(*entries);
  return {};
}

/// add() removes what the index does not list, which is everything once the index is lost.
tl::unexpected<Error> History::set_aside(const Error& damage) {
  damage_ = damage;
  for (int number = 1; number <= kMostDamaged; ++number) {
    const std::string aside = fmt::format("{}.damaged-{}", directory_, number);
    std::error_code error;
    if (fs::exists(fs::symlink_status(aside, error))) {
      continue;
    }
    if (Status renamed = disk_.rename(directory_, aside); !renamed) {
      return fail(damage.message + "; " + renamed.error().message,
                  "move " + directory_ + " away, then restart trireme");
    }
    damage_.reset();
    return fail(damage.message + "; the earlier configurations are in " + aside,
                "remove it once you do not need them any more");
  }
  return fail(damage.message, "remove the directories " + directory_ +
                                  ".damaged-*, and restart "
                                  "trireme");
}

Status History::write_index(const std::vector<Entry>& entries) const {
  json list = json::array();
  std::ranges::transform(entries, std::back_inserter(list), entry_json);
  return disk_.replace(directory_ + kIndex, list.dump(), 0600);
}

Status History::add(Entry entry, const FileSet& files) {
  if (damage_) {
    return tl::unexpected(*damage_);
  }
  if (Status made = disk_.make_directory(directory_, 0700); !made) {
    return made;
  }
  if (Status kept = keep(entry.digests, files); !kept) {
    return kept;
  }
  std::vector<Entry> entries = entries_;
  std::erase_if(entries, [&](const Entry& old) { return old.digests == entry.digests; });
  entries.insert(entries.begin(), std::move(entry));
  entries.resize(std::min(entries.size(), kMost));
  if (Status written = write_index(entries); !written) {
    return written;
  }
  entries_ = std::move(entries);
  return remove_unlisted();
}

Status History::keep(const Digests& digests, const FileSet& files) const {
  const std::string path = path_of(digests);
  const std::string text = to_json(files).dump();
  const auto stored = read_file(path, kMostBytes);
  return stored && *stored == text ? Status{} : disk_.replace(path, text, 0600);
}

/// Removes the files of entries that the index does not have any more, or never had because of a
/// crash.
Status History::remove_unlisted() const {
  std::set<std::string> listed = {directory_ + kIndex};
  std::ranges::transform(entries_, std::inserter(listed, listed.end()),
                         [this](const Entry& entry) { return path_of(entry.digests); });
  std::error_code error;
  for (const auto& item : fs::directory_iterator(directory_, error)) {
    if (const std::string path = item.path().string(); !listed.contains(path)) {
      if (Status removed = disk_.remove(path); !removed) {
        return removed;
      }
    }
  }
  return {};
}

Status History::note_rollback(const Digests& digests) {
  std::vector<Entry> entries = entries_;
  const auto found = std::ranges::find(entries, digests, &Entry::digests);
  if (found == entries.end()) {
    return {};
  }
  found->rolled_back = true;
  if (Status written = write_index(entries); !written) {
    return written;
  }
  entries_ = std::move(entries);
  return {};
}

/// The digits that tell the entries apart: those of the identity only where they are needed.
std::string History::candidates(const std::vector<Entry>& of) const {
  std::string text;
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (i == kListed) {
      return text + ", …";
    }
    const Entry& entry = of[i];
    const auto is_like = [&entry](const Entry& other) {
      return other.digests.policy == entry.digests.policy;
    };
    text += (text.empty() ? "" : ", ") + entry.short_digest();
    if (std::ranges::count_if(entries_, is_like) > 1) {
      text += ":" + entry.digests.identity.substr(0, 16);
    }
  }
  return text;
}

bool History::matches(const Digests& digests, const std::string& digits) {
  const std::size_t colon = digits.find(':');
  const std::string identity = colon == std::string::npos ? "" : digits.substr(colon + 1);
  return digests.policy.starts_with(lower_case(digits.substr(0, colon))) &&
         digests.identity.starts_with(lower_case(identity));
}

Result<History::Entry> History::find(const std::string& digits) const {
  std::vector<Entry> found;
  std::ranges::copy_if(entries_, std::back_inserter(found),
                       [&](const Entry& entry) { return matches(entry.digests, digits); });
  if (found.size() == 1) {
    return found.front();
  }
  if (found.empty()) {
    return fail("no policy in the history has a digest that begins with '" + digits + "'",
                entries_.empty() ? "the history is empty" : "known: " + candidates(entries_));
  }
  return fail(
      fmt::format("'{}' is ambiguous: {} policies in the history match", digits, found.size()),
      "give one of " + candidates(found));
}

std::optional<History::Entry> History::before(const Digests& now) const {
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return !entry.rolled_back && entry.digests != now; });
  return found == entries_.end() ? std::nullopt : std::optional(*found);
}

Result<FileSet> History::files(const Entry& entry) const {
  const std::string path = path_of(entry.digests);
  const auto text = read_file(path, kMostBytes);
  if (!text) {
    return tl::unexpected(text.error());
  }
  const auto value = parse_json(*text);
  if (!value) {
    return fail("cannot read " + path + ": " + value.error().message);
  }
  auto files = file_set(*value);
  if (!files) {
    return fail("cannot read " + path + ": " + files.error().message);
  }
  if (digests_of(*files) != entry.digests) {
    return fail(path + " is damaged: it has other files than its name says");
  }
  return files;
}

}  // namespace trireme::config
