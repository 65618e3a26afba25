#include "original_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "trireme/policy/address.hpp"
#include "trireme/policy/selector.hpp"

namespace trireme::config {
namespace {

Result<std::string> requirement(const OriginalClause& clause) {
  if (clause.key.starts_with("@sys:") || clause.key.starts_with("$")) {
    return fail(fmt::format("'{}' is a tag that the original found out by itself, no label", clause.key));
  }
  const std::string key = clause.key.starts_with("@usr:") ? clause.key.substr(5) : clause.key;
  policy::Requirement made{.key = key, .op = policy::Requirement::Operator::in, .values = clause.values};
  std::string text;
  if (clause.op == "=") {
    text = made.text();
  } else if (clause.op == "=!" || clause.op == "!=") {  // there the key had to be present
    made.op = policy::Requirement::Operator::not_in;
    text = key + ", " + made.text();
  } else if (clause.op == "*") {
    text = key;
  } else if (clause.op == "!*") {
    text = "!" + key;
  } else {
    return fail(fmt::format("operator '{}' is not known", clause.op));
  }
  const bool needs_values = clause.op == "=" || clause.op == "=!" || clause.op == "!=";
  if ((needs_values && clause.values.empty()) || !policy::Selector::parse(text)) {
    return fail(fmt::format("'{} {} {}' makes no selector", clause.key, clause.op, fmt::join(clause.values, ",")));
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
    return fail(fmt::format("'{}' is no network", address));
  }
  for (std::size_t bit = length; bit < base->size() * 8; bit++) {
    base->bytes.at(bit / 8) = static_cast<std::uint8_t>(base->bytes.at(bit / 8) & ~(0x80U >> (bit % 8)));
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
  for (std::string protocol : acl.protocols.empty() ? std::vector<std::string>{""} : acl.protocols) {
    std::ranges::transform(protocol, protocol.begin(),
                           [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    const auto known = kProtocols.find(protocol);
    if (known == kProtocols.end()) {
      return fail(fmt::format("protocol '{}' cannot be named in a rule", protocol));
    }
    for (std::string ports : acl.ports.empty() ? std::vector<std::string>{""} : acl.ports) {
      std::ranges::replace(ports, ':', '-');
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

}  // namespace trireme::config
