// SPDX-License-Identifier: Apache-2.0
#include "invoker.hpp"

#include <pwd.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <limits>

#include "trireme/base/file.hpp"

namespace trireme::cli {
namespace {

std::string name_of(uid_t uid) {
  const passwd* entry = ::getpwuid(uid);  // NOLINT(concurrency-mt-unsafe): one thread
  return entry == nullptr ? "uid " + std::to_string(uid) : entry->pw_name;
}

}  // namespace

std::string invoking_user() {
  const char* sudo = std::getenv("SUDO_USER");  // NOLINT(concurrency-mt-unsafe): one thread
  if (::getuid() == 0 && sudo != nullptr && *sudo != '\0') {
    return sudo;
  }
  uid_t login = std::numeric_limits<uid_t>::max();
  if (const auto text = read_file("/proc/self/loginuid")) {
    std::from_chars(text->data(), text->data() + text->size(), login);
  }
  return name_of(login == std::numeric_limits<uid_t>::max() ? ::getuid() : login);
}

}  // namespace trireme::cli
