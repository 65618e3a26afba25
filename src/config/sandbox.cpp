// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/sandbox.hpp"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "trireme/base/file.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnit = "trireme.service";
constexpr unsigned kReadAll = 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH;

std::string trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) {
    return {};
  }
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

bool is_on(const std::string& value) {
  return value == "yes" || value == "true" || value == "on" || value == "1";
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> list;
  for (std::string word; stream >> word;) {
    list.push_back(word);
  }
  return list;
}

/// Removes the prefixes "-" and "+" of systemd's path settings.
std::string without_prefix(const std::string& path) {
  return path.substr(std::min(path.find_first_not_of("-+"), path.size()));
}

/// The value of --config-dir in a command line of a unit.
std::string config_dir_of(const std::vector<std::string>& command) {
  constexpr std::string_view kOption = "--config-dir";
  std::string directory = TRIREME_SYSCONFDIR;
  for (std::size_t i = 0; i < command.size(); ++i) {
    if (command[i] == kOption && i + 1 < command.size()) {
      directory = command[++i];
    } else if (command[i].starts_with(std::string(kOption) + "=")) {
      directory = command[i].substr(kOption.size() + 1);
    }
  }
  std::erase_if(directory, [](char c) { return c == '"' || c == '\''; });
  return directory;
}

bool is_below(const std::string& path, const std::string& directory) {
  return path == directory || (path.starts_with(directory) &&
                               (directory.ends_with('/') || path[directory.size()] == '/'));
}

std::vector<std::string> unit_directories() {
  const char* chosen = std::getenv("SYSTEMD_UNIT_PATH");  // NOLINT(concurrency-mt-unsafe)
  std::vector<std::string> directories;
  std::istringstream stream(chosen == nullptr ? "" : chosen);
  for (std::string directory; std::getline(stream, directory, ':');) {
    if (!directory.empty()) {
      directories.push_back(directory);
    }
  }
  if (directories.empty()) {
    directories = {"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
                   "/usr/lib/systemd/system", "/lib/systemd/system"};
  }
  return directories;
}

}  // namespace

Sandbox Sandbox::parse(const std::vector<std::string>& texts) {
  Sandbox sandbox;
  for (const std::string& text : texts) {
    sandbox.read(text);
  }
  sandbox.finish();
  return sandbox;
}

std::optional<Sandbox> Sandbox::installed() {
  const auto directories = unit_directories();
  const auto home = std::ranges::find_if(directories, [](const std::string& directory) {
    std::error_code error;
    return fs::is_regular_file(directory + "/" + kUnit, error);
  });
  const auto unit = home == directories.end() ? Result<std::string>(fail("not installed"))
                                              : read_file(*home + "/" + kUnit);
  if (!unit) {
    return std::nullopt;
  }
  std::map<std::string, std::string>
      drop_ins;  // if several directories have a name, the first one is used
  for (const std::string& directory : directories) {
    std::error_code error;
    fs::directory_iterator entries(directory + "/" + kUnit + ".d", error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      if (entries->path().extension() == ".conf") {
        drop_ins.emplace(entries->path().filename().string(), entries->path().string());
      }
    }
  }
  std::vector<std::string> texts = {*unit};
  for (const auto& [name, path] : drop_ins) {
    if (auto text = read_file(path)) {
      texts.push_back(std::move(*text));
    }
  }
  return parse(texts);
}

/// Parses the syntax of systemd.syntax(7): sections, KEY=VALUE, comments, continuation lines.
void Sandbox::read(std::string_view text) {
  std::string section;
  std::string line;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string part = trimmed(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (part.starts_with('#') || part.starts_with(';')) {
      continue;
    }
    line += part;
    if (line.ends_with('\\') && !text.empty()) {
      line.back() = ' ';
      continue;
    }
    const std::size_t equals = line.find('=');
    if (line.starts_with('[')) {
      section = line;
    } else if (section == "[Service]" && equals != std::string::npos) {
      set(trimmed(line.substr(0, equals)), trimmed(line.substr(equals + 1)));
    }
    line.clear();
  }
}

void Sandbox::set(const std::string& key, const std::string& value) {
  if (key == "ExecStart") {
    config_dir_ = config_dir_of(words(value));
  } else if (key == "ProtectHome") {
    protect_home_ = value.empty() ? "no" : value;
  } else if (key == "PrivateTmp") {
    private_tmp_ = value.empty() ? "no" : value;
  } else if (key == "CapabilityBoundingSet") {
    // An empty value removes all capabilities; several values are combined.
    capabilities_ = value.empty() ? "" : capabilities_.value_or("") + " " + value;
  } else if (key == "InaccessiblePaths" || key == "TemporaryFileSystem") {
    if (value.empty()) {
      std::erase_if(hidden_, [&](const Hidden& item) { return item.setting.starts_with(key); });
    }
    for (const std::string& word : words(value)) {
      const std::string path = without_prefix(word);
      hidden_.push_back({path.substr(0, path.find(':')), key + "=" + word});
    }
  } else if (key == "BindPaths" || key == "BindReadOnlyPaths") {
    for (const std::string& word : words(value)) {
      const std::string path = without_prefix(word);
      const std::size_t colon = path.find(':');
      const std::string rest = colon == std::string::npos ? path : path.substr(colon + 1);
      bound_.push_back(rest.substr(0, rest.find(':')));
    }
  }
}

void Sandbox::finish() {
  if (is_on(protect_home_) || protect_home_ == "tmpfs") {
    for (const char* path : {"/home", "/root", "/run/user"}) {
      hidden_.push_back({path, "ProtectHome=" + protect_home_});
    }
  }
  if (is_on(private_tmp_)) {
    for (const char* path : {"/tmp", "/var/tmp"}) {
      hidden_.push_back({path, "PrivateTmp=" + private_tmp_});
    }
  }
  if (capabilities_) {
    const auto named = words(*capabilities_);
    const bool inverted = !named.empty() && named.front().starts_with('~');
    const auto lists = [&](std::string_view name) {
      return std::ranges::any_of(named, [&](const std::string& word) {
        return word.substr(word.starts_with('~') ? 1 : 0) == name;
      });
    };
    ignores_modes_ =
        lists("CAP_DAC_OVERRIDE") != inverted || lists("CAP_DAC_READ_SEARCH") != inverted;
  }
}

std::string Sandbox::hides_exactly(const std::string& path) const {
  const auto covers = [&](const std::string& directory) { return is_below(path, directory); };
  if (std::ranges::any_of(bound_, covers)) {
    return {};
  }
  const auto found =
      std::ranges::find_if(hidden_, [&](const Hidden& item) { return covers(item.path); });
  return found == hidden_.end() ? std::string() : found->setting;
}

std::string Sandbox::hides(const std::string& path) const {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (std::string setting = hides_exactly(absolute.string()); !setting.empty()) {
    return setting;
  }
  const fs::path real = fs::weakly_canonical(absolute, error);
  return error ? std::string() : hides_exactly(real.string());
}

namespace {

using CapabilityData = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

bool get(CapabilityData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, data.data()) == 0;
}

bool put(const CapabilityData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, data.data()) == 0;
}

}  // namespace

AsDaemon::AsDaemon(const Sandbox& sandbox) {
  CapabilityData data{};
  if (sandbox.ignores_modes() || ::geteuid() != 0 || !get(data)) {
    return;
  }
  before_ = data[0].effective;
  data[0].effective &= ~kReadAll;
  dropped_ = put(data);
}

AsDaemon::~AsDaemon() {
  CapabilityData data{};
  if (dropped_ && get(data)) {
    data[0].effective = before_;
    std::ignore = put(data);
  }
}

}  // namespace trireme::config
