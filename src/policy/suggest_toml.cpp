// SPDX-License-Identifier: Apache-2.0
// Writes a suggestion as a TOML file for an operator to review, shorten and save.
#include <fmt/format.h>

#include "trireme/base/counted.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::policy {
namespace {

constexpr std::size_t kLineWidth = 100;

/// Replaces control characters: names come from outside, and a line break would end the comment.
std::string comment_line(std::string_view text) {
  return "# " + printable(text) + "\n";
}

std::string toml_list(const std::vector<std::string>& items) {
  if (items.size() == 1) {
    return toml_string(items.front());
  }
  std::string one_line;
  for (const std::string& item : items) {
    one_line += (one_line.empty() ? "" : ", ") + toml_string(item);
  }
  if (one_line.size() <= kLineWidth) {
    return "[" + one_line + "]";
  }
  std::string lines = "[\n";
  for (const std::string& item : items) {
    lines += "  " + toml_string(item) + ",\n";
  }
  return lines + "]";
}

std::string toml_array(const std::vector<std::string>& items) {
  const std::string list = toml_list(items);
  return list.front() == '[' ? list : "[" + list + "]";
}

}  // namespace

std::string toml_string(std::string_view text) {
  std::string result = "\"";
  for (std::size_t at = 0; at < text.size();) {
    if (const ControlCharacter control = control_at(text, at); control.size > 0) {
      result += fmt::format("\\u{:04X}", control.code);
      at += control.size;
      continue;
    }
    if (text[at] == '"' || text[at] == '\\') {
      result += '\\';
    }
    result += text[at];
    ++at;
  }
  return result + '"';
}

std::string Suggestion::toml(const std::string& context) const {
  std::string out = comment_line(context);
  out += fmt::format("# {} {} {}; {} {} already allowed.\n", counted(rules.size(), "rule"),
                     rules.size() == 1 ? "covers" : "cover", counted(needed, "flow"), allowed,
                     allowed == 1 ? "is" : "are");
  out +=
      "# Review every rule before you save it in policy.d: a flow that was seen is not necessarily "
      "one to allow.\n";
  for (const SuggestedNetwork& network : networks) {
    std::vector<std::string> cidrs;
    for (const Prefix& cidr : network.cidrs) {
      cidrs.push_back(cidr.text());
    }
    out += fmt::format("\n[[network]]\nname = {}\n{} = {}\n", toml_string(network.name),
                       network.names.empty() ? "cidrs" : "names",
                       toml_array(network.names.empty() ? cidrs : network.names));
  }
  for (const SuggestedRule& rule : rules) {
    out += "\n" + comment_line(
                      fmt::format("{}, for example {}", counted(rule.flows, "flow"), rule.example));
    if (!rule.last.empty()) {
      out += comment_line("last seen " + rule.last);
    }
    for (const std::string& comment : rule.comments) {
      out += comment_line(comment);
    }
    std::vector<std::string> ports;
    for (const PortRange& range : rule.ports) {
      ports.push_back(range_text(range));
    }
    out += fmt::format("[[allow]]\nname = {}\nfrom = {}\nto = {}\nports = {}\n",
                       toml_string(rule.name), toml_list(rule.from), toml_list(rule.to),
                       toml_array(ports));
  }
  if (!left_out.empty()) {
    out += "\n# Not suggested:\n";
    for (const std::string& line : left_out) {
      out += comment_line(line);
    }
  }
  return out;
}

}  // namespace trireme::policy
