// SPDX-License-Identifier: Apache-2.0
#include "original_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "trireme/policy/address.hpp"
#include "trireme/policy/selector.hpp"

namespace trireme::config {
namespace {

/// Whether the text is a port or a range of ports: "80", "80-90".
bool is_port_range(std::string_view text) {
  const auto port = [](std::string_view digits) {
    std::uint16_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return error == std::errc() && end == digits.data() + digits.size() ? number : std::uint16_t{0};
  };
  const std::size_t dash = text.find('-');
  const auto first = port(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : port(text.substr(dash + 1));
  return first != 0 && first <= last;
}

/// Whether `text` parses back to exactly these requirements. Names in the original's file can
/// contain characters that are syntax in a selector, such as a comma.
bool means(const std::string& text, std::vector<policy::Requirement> wanted) {
  std::ranges::sort(wanted);
  const auto parsed = policy::Selector::parse(text);
  return parsed && parsed->requirements() == wanted;
}

Result<std::string> requirement(const OriginalClause& clause) {
  using policy::Requirement;
  if (clause.key.starts_with("@sys:") || clause.key.starts_with("$")) {
    return fail(fmt::format("'{}' is a tag that the original Trireme added itself, not a label",
                            clause.key));
  }
  const std::string key = clause.key.starts_with("@usr:") ? clause.key.substr(5) : clause.key;
  std::vector<std::string> values = clause.values;
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  std::vector<Requirement> wanted;
  if (clause.op == "=") {
    wanted = {{.key = key, .op = Requirement::Operator::in, .values = values}};
  } else if (clause.op == "=!" ||
             clause.op == "!=") {  // in the original, the key had to be present
    wanted = {{.key = key, .op = Requirement::Operator::exists, .values = {}},
              {.key = key, .op = Requirement::Operator::not_in, .values = values}};
  } else if (clause.op == "*") {
    wanted = {{.key = key, .op = Requirement::Operator::exists, .values = {}}};
  } else if (clause.op == "!*") {
    wanted = {{.key = key, .op = Requirement::Operator::not_exists, .values = {}}};
  } else {
    return fail(fmt::format("unknown operator '{}'", clause.op));
  }
  std::string text;
  for (const Requirement& each : wanted) {
    text += (text.empty() ? "" : ", ") + each.text();
  }
  if (!means(text, wanted)) {
    return fail(fmt::format("'{} {} {}' cannot be expressed as a selector", clause.key, clause.op,
                            fmt::join(clause.values, ",")));
  }
  return text;
}

}  // namespace

Result<std::string> original_prefix(const std::string& address) {
  const std::size_t slash = address.find('/');
  auto base = policy::Address::parse(std::string_view(address).substr(0, slash));
  if (!base) {
    return tl::unexpected(base.error());
  }
  if (slash == std::string::npos) {
    return base->text();
  }
  unsigned length = 0;
  const char* end = address.data() + address.size();
  const auto [last, error] = std::from_chars(address.data() + slash + 1, end, length);
  if (error != std::errc() || last != end || length > base->size() * 8) {
    return fail(fmt::format("invalid network '{}'", address));
  }
  for (std::size_t bit = length; bit < base->size() * 8; bit++) {
    base->bytes.at(bit / 8) =
        static_cast<std::uint8_t>(base->bytes.at(bit / 8) & ~(0x80U >> (bit % 8)));
  }
  return fmt::format("{}/{}", base->text(), length);
}

Result<std::vector<std::string>> original_services(const OriginalAcl& acl) {
  static const std::map<std::string, std::vector<std::string>> kProtocols = {
      {"tcp", {"tcp"}},   {"6", {"tcp"}},       {"udp", {"udp"}},        {"17", {"udp"}},
      {"icmp", {"icmp"}}, {"1", {"icmp"}},      {"icmp6", {"icmpv6"}},   {"icmpv6", {"icmpv6"}},
      {"58", {"icmpv6"}}, {"", {"tcp", "udp"}}, {"any", {"tcp", "udp"}}, {"all", {"tcp", "udp"}}};
  std::vector<std::string> result;
  bool everything = false;
  for (std::string protocol :
       acl.protocols.empty() ? std::vector<std::string>{""} : acl.protocols) {
    std::ranges::transform(protocol, protocol.begin(), [](unsigned char c) {
      return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    });
    const auto known = kProtocols.find(protocol);
    if (known == kProtocols.end()) {
      return fail(fmt::format("a rule cannot match protocol '{}'", protocol));
    }
    for (std::string ports : acl.ports.empty() ? std::vector<std::string>{""} : acl.ports) {
      std::ranges::replace(ports, ':', '-');
      if (!ports.empty() && !is_port_range(ports)) {
        return fail(fmt::format("invalid port range '{}'", ports));
      }
      everything = everything || (known->second.size() > 1 && ports.empty());
      for (const std::string& name : known->second) {
        result.push_back(name.starts_with("icmp") || ports.empty() ? name : name + "/" + ports);
      }
    }
  }
  for (std::string& service : result) {
    service = service == "tcp" || service == "udp" ? service + "/1-65535" : service;
  }
  return everything ? std::vector<std::string>{} : result;
}

Result<std::string> original_selector(const OriginalTagRule& rule) {
  std::string result;
  for (const OriginalClause& clause : rule.clauses) {
    const auto text = requirement(clause);
    if (!text) {
      return tl::unexpected(text.error());
    }
    result += (result.empty() ? "" : ", ") + *text;
  }
  return result;
}

std::optional<std::string> own_selector(const std::string& name) {
  const std::string text = "PolicyIndex=" + name;
  const bool plain =
      !name.ends_with('*') &&
      means(text,
            {{.key = "PolicyIndex", .op = policy::Requirement::Operator::in, .values = {name}}});
  return plain ? std::optional(text) : std::nullopt;
}

}  // namespace trireme::config
