// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/users.hpp"

#include <pwd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <tuple>

namespace trireme {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::ignore = std::fclose(file); }
};

}  // namespace

std::optional<std::string> local_user(std::uint32_t uid) {
  const std::unique_ptr<std::FILE, CloseFile> users(std::fopen("/etc/passwd", "re"));
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  while (users != nullptr &&
         ::fgetpwent_r(users.get(), &entry, buffer.data(), buffer.size(), &found) == 0) {
    if (found->pw_uid == uid) {
      return found->pw_name;
    }
  }
  return std::nullopt;
}

}  // namespace trireme
