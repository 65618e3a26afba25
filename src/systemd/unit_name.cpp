// SPDX-License-Identifier: Apache-2.0
#include "unit_name.hpp"

#include <fnmatch.h>

namespace trireme::systemd {

std::string unit_of_path(const std::string& path) {
  std::size_t begin = 1;
  for (std::size_t end = path.find('/', begin); end != std::string::npos;
       end = path.find('/', begin)) {
    if (!std::string_view(path).substr(begin, end - begin).ends_with(".slice")) {
      return {};
    }
    begin = end + 1;
  }
  if (begin >= path.size()) {
    return {};
  }
  const std::string name = path.substr(
      path[begin] == '_' ? begin + 1 : begin);  // systemd's escape for names that the kernel uses
  for (const char* type : {".service", ".scope", ".socket"}) {
    if (name.ends_with(type)) {
      return name;
    }
  }
  return {};
}

std::string unit_path(const std::string& path) {
  for (std::string start = path; !start.empty() && start.find('/') != std::string::npos;
       start.resize(start.rfind('/'))) {
    if (!unit_of_path(start).empty()) {
      return start;
    }
  }
  return {};
}

std::string template_of(const std::string& unit) {
  const std::size_t at = unit.find('@');
  const std::size_t dot = unit.rfind('.');
  return at == std::string::npos || dot == std::string::npos || dot < at
             ? std::string()
             : unit.substr(0, at + 1) + unit.substr(dot);
}

bool is_template(const std::string& unit) {
  return unit.find("@.") != std::string::npos && template_of(unit) == unit;
}

std::string instance_of(const std::string& unit) {
  const std::size_t at = unit.find('@');
  return template_of(unit).empty() ? std::string() : unit.substr(at + 1, unit.rfind('.') - at - 1);
}

std::string prefix_of(const std::string& pattern) {
  constexpr std::string_view kRest = "*.service";
  if (!pattern.ends_with(kRest)) {
    return {};
  }
  const std::string prefix = pattern.substr(0, pattern.size() - kRest.size());
  return prefix.size() > 1 && prefix.ends_with('-') && is_plain(prefix) &&
                 prefix.find('@') == std::string::npos
             ? prefix + ".service"
             : std::string();
}

bool is_plain(const std::string& pattern) {
  return pattern.find_first_of("*?[") == std::string::npos;
}

bool matches(const std::string& pattern, const std::string& unit) {
  return ::fnmatch(pattern.c_str(), unit.c_str(), FNM_NOESCAPE) == 0;
}

bool matches_all_instances(const std::string& pattern, const std::string& name) {
  // A pattern that matches an instance named by a control character matches any instance. Patterns
  // with '?' or '[' in place of the instance are the exception; the second, longer name excludes
  // them.
  std::string shorter = name;
  std::string longer = name;
  shorter.insert(name.find('@') + 1, "\x01");
  longer.insert(name.find('@') + 1, "\x01\x02\x01");
  return matches(pattern, shorter) && matches(pattern, longer);
}

}  // namespace trireme::systemd
