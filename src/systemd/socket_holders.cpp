// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/socket_holders.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace trireme::systemd {
namespace {

/// A child of systemd has copies of systemd's descriptors until it executes its program, so
/// processes that hold a socket are checked again: every kPassing, at most kLooks times.
constexpr std::chrono::milliseconds kPassing(10);
constexpr unsigned kLooks = 50;

struct Close {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

/// True if the error means that the process or thread has ended.
bool has_gone(int error) {
  return error == ENOENT || error == ESRCH;
}

std::optional<std::uint32_t> number_of(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

/// Calls `each` for every entry of the directory whose name is a number. False if the directory
/// cannot be read.
bool for_each_number(const std::string& path, const std::function<void(std::uint32_t)>& each) {
  const std::unique_ptr<DIR, Close> directory(::opendir(path.c_str()));
  if (directory == nullptr) {
    return has_gone(errno);
  }
  while (const dirent* entry = ::readdir(directory.get())) {
    if (const auto number = number_of(entry->d_name)) {
      each(*number);
    }
  }
  return true;
}

/// Adds the inodes of the sockets in a directory of descriptors (/proc/PID/fd). False if it cannot
/// be read.
bool add_sockets(const std::string& descriptors, std::set<std::uint32_t>& inodes) {
  constexpr std::string_view kSocket = "socket:[";
  return for_each_number(descriptors, [&](std::uint32_t descriptor) {
    std::array<char, 64> target{};
    const ssize_t size = ::readlink((descriptors + "/" + std::to_string(descriptor)).c_str(),
                                    target.data(), target.size());
    std::string_view text(target.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
    if (text.starts_with(kSocket) && text.ends_with(']')) {
      text.remove_prefix(kSocket.size());
      text.remove_suffix(1);
      if (const auto inode = number_of(text)) {
        inodes.insert(*inode);
      }
    }
  });
}

/// The sockets of the process, including those of threads with their own descriptor table. nullopt
/// if they cannot be determined.
std::optional<std::set<std::uint32_t>> all_sockets(std::uint32_t pid) {
  const std::string process = "/proc/" + std::to_string(pid);
  std::set<std::uint32_t> inodes;
  bool readable = add_sockets(process + "/fd", inodes);
  readable = for_each_number(
                 process + "/task",
                 [&](std::uint32_t thread) {
                   // If kcmp fails, assume that the thread has its own descriptor table.
                   if (thread != pid && ::syscall(SYS_kcmp, pid, thread, KCMP_FILES, 0, 0) != 0) {
                     readable =
                         add_sockets(process + "/task/" + std::to_string(thread) + "/fd", inodes) &&
                         readable;
                   }
                 }) &&
             readable;
  return readable ? std::optional(std::move(inodes)) : std::nullopt;
}

bool has_any(std::uint32_t pid, const std::set<std::uint32_t>& sockets) {
  const auto held = all_sockets(pid);
  return !held ||
         std::ranges::any_of(*held, [&](std::uint32_t inode) { return sockets.contains(inode); });
}

}  // namespace

std::set<std::uint32_t> sockets_of_process(std::uint32_t pid) {
  std::set<std::uint32_t> inodes;
  (void)add_sockets("/proc/" + std::to_string(pid) + "/fd", inodes);
  return inodes;
}

std::set<std::uint32_t> held_by_init_alone(std::set<std::uint32_t> sockets) {
  std::vector<std::uint32_t> holders;
  const bool listed = for_each_number("/proc", [&](std::uint32_t pid) {
    if (pid != 1 && has_any(pid, sockets)) {
      holders.push_back(pid);
    }
  });
  if (!listed) {
    return {};
  }
  for (unsigned look = 1; look < kLooks && !holders.empty(); look++) {
    std::this_thread::sleep_for(kPassing);
    std::erase_if(holders, [&](std::uint32_t pid) { return !has_any(pid, sockets); });
  }
  for (const std::uint32_t pid : holders) {
    const auto held = all_sockets(pid);
    if (!held) {
      return {};
    }
    std::erase_if(sockets, [&](std::uint32_t inode) { return held->contains(inode); });
  }
  return sockets;
}

}  // namespace trireme::systemd
