// SPDX-License-Identifier: Apache-2.0
#include "latest_time.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kMostTimeBytes = 100;
constexpr std::int64_t kMostSeconds = 253'402'300'799;  // 9999-12-31T23:59:59Z

/// nullopt if the file does not exist.
Result<std::optional<std::chrono::sys_seconds>> read_time(const std::string& path) {
  const auto text = read_file(path, kMostTimeBytes);
  if (!text) {
    if (text.error().code == ENOENT) {
      return std::nullopt;
    }
    return tl::unexpected(text.error());
  }
  std::int64_t seconds = 0;
  const char* end = text->data() + text->size();
  const auto parsed = std::from_chars(text->data(), end, seconds);
  if (parsed.ec != std::errc{} || std::string(parsed.ptr, end) != "\n" || seconds < 0 ||
      seconds > kMostSeconds) {
    return fail("cannot read " + path + ": it has no time");
  }
  return std::chrono::sys_seconds(std::chrono::seconds(seconds));
}

}  // namespace

LatestTime::LatestTime(std::string path, Disk disk)
    : path_(std::move(path)), disk_(std::move(disk)) {
  if (path_.empty()) {
    return;
  }
  const auto time = read_time(path_);
  if (!time) {
    found_ = tl::unexpected(time.error());
  } else if (*time) {
    saved_ = **time;
    see(**time);
  }
}

void LatestTime::see(std::chrono::sys_seconds time) {
  latest_ = std::max(latest_, time);
}

Status LatestTime::keep(std::chrono::seconds interval) {
  if (path_.empty() || (saved_ && latest_ < *saved_ + interval)) {
    return {};
  }
  const auto seconds = latest_.time_since_epoch().count();
  if (Status kept = disk_.replace(path_, std::to_string(seconds) + "\n", 0600); !kept) {
    return kept;
  }
  saved_ = latest_;
  return {};
}

}  // namespace trireme::daemon
