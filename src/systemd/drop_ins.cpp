// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/drop_ins.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "trireme/base/file.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "50-trireme.conf";
constexpr const char* kLasting = "/etc/systemd/system";
constexpr const char* kRuntime = "/run/systemd/system";

std::string file(const std::string& directory, const std::string& unit) {
  return directory + "/" + unit + ".d/" + kFile;
}

}  // namespace

DropIns::DropIns(std::string gate_command) : gate_command_(std::move(gate_command)) {}

std::string DropIns::content(bool rooted) const {
  const std::string text =
      "# Written by trireme for a [[unit]] entry of identity.toml; removed with that entry.\n"
      "[Unit]\n"
      "After=trireme.service\n";
  if (rooted) {
    return text +
           "# trirectl is not in the unit's own root, so the start cannot wait for enforcement.\n"
           "AssertPathExists=/trireme/cannot-enforce-units-with-RootDirectory-or-RootImage\n";
  }
  return text +
         "[Service]\n"
         "ExecCondition=+/bin/sh -c '\"" +
         gate_command_ + "\" unit-gate \"%n\" || exit 255'\n";
}

bool DropIns::last() const {
  return ::access(kLasting, W_OK) == 0;
}

Result<bool> DropIns::apply(const std::set<std::string>& units, const std::set<std::string>& early,
                            const std::set<std::string>& rooted) const {
  const bool lasting = last();
  const auto place = [&](const std::string& unit) {
    return lasting && !early.contains(unit) ? kLasting : kRuntime;
  };
  Status outcome;
  bool changed = false;
  std::set<std::string> missing;
  for (const std::string& unit : units) {
    if (const auto written = write(place(unit), unit, rooted.contains(unit))) {
      changed = changed || *written;
    } else {
      missing.insert(unit);
      outcome = outcome ? tl::unexpected(written.error()) : outcome;
    }
  }
  // Remove obsolete drop-ins only after their replacements exist, so that no unit is without one.
  for (const std::string directory : {kLasting, kRuntime}) {
    for (const std::string& unit : present(directory)) {
      if (missing.contains(unit) || (units.contains(unit) && directory == place(unit))) {
        continue;
      }
      const Status removed = remove(directory, unit);
      outcome = outcome ? removed : outcome;
      changed = true;
    }
  }
  return outcome ? Result<bool>(changed) : tl::unexpected(outcome.error());
}

bool DropIns::cover(const std::set<std::string>& units, const std::set<std::string>& names) {
  return std::ranges::any_of(names, [&units](const std::string& name) {
    return std::ranges::any_of(units, [&name](const std::string& each) {
      const bool is_prefix =
          each.ends_with("-.service") && name.starts_with(each.substr(0, each.rfind('.')));
      return each == name || each == template_of(name) || is_prefix;
    });
  });
}

bool DropIns::exist(const std::set<std::string>& names) {
  return cover(present(kLasting), names) || cover(present(kRuntime), names);
}

std::set<std::string> DropIns::present(const std::string& directory) {
  std::set<std::string> units;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (name.ends_with(".d") && fs::exists(entry.path() / kFile, error)) {
      units.insert(name.substr(0, name.size() - 2));
    }
  }
  return units;
}

Result<bool> DropIns::write(const std::string& directory, const std::string& unit,
                            bool rooted) const {
  const std::string path = file(directory, unit);
  if (const auto present = read_file(path); present && *present == content(rooted)) {
    return false;
  }
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) {
    return fail("cannot create the directory of " + path + ": " + error.message());
  }
  if (auto written = replace_file(path, content(rooted), 0644); !written) {
    return tl::unexpected(written.error());
  }
  return true;
}

Status DropIns::remove(const std::string& directory, const std::string& unit) {
  const std::string path = file(directory, unit);
  std::error_code error;
  fs::remove(path, error);
  if (error) {
    return fail("cannot remove " + path + ": " + error.message());
  }
  fs::remove(fs::path(path).parent_path(), error);  // fails if it contains other drop-ins
  return {};
}

}  // namespace trireme::systemd
