// SPDX-License-Identifier: Apache-2.0
#include "original_policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace trireme::config {
namespace {

using nlohmann::ordered_json;

/// Thrown for the first structural error of the file.
struct Malformed {
  Error error;
};

[[noreturn]] void malformed(const std::string& place, const std::string& expected) {
  throw Malformed{
      {place + " is not " + expected, "this is not a policy file of the original Trireme"}};
}

std::string text(const ordered_json& value, const std::string& place) {
  if (!value.is_string()) {
    malformed(place, "a string");
  }
  return value.get<std::string>();
}

std::vector<std::string> texts(const ordered_json& value, const std::string& place) {
  if (value.is_null()) {
    return {};
  }
  if (!value.is_array()) {
    malformed(place, "a list");
  }
  std::vector<std::string> list;
  for (std::size_t i = 0; i < value.size(); i++) {
    list.push_back(text(value[i], fmt::format("{}[{}]", place, i)));
  }
  return list;
}

OriginalAction read_action(const ordered_json& entry, const std::string& place) {
  const auto policy = entry.find("Policy");
  if (policy == entry.end() || !policy->is_object() || !policy->contains("Action") ||
      !policy->at("Action").is_number_unsigned()) {
    malformed(place + ".Policy.Action", "a number");
  }
  return {policy->at("Action").get<unsigned>()};
}

class Reader {
 public:
  explicit Reader(std::vector<std::string>& unknown) : unknown_(unknown) {}

  OriginalPolicy policy(const std::string& name, const ordered_json& value) {
    if (!value.is_object()) {
      malformed(name, "a policy");
    }
    OriginalPolicy policy{
        .name = name, .application = {}, .network = {}, .dependencies = {}, .exposures = {}};
    for (const auto& [key, list] : value.items()) {
      const std::string place = name + "." + key;
      if (key == "ApplicationACLs") {
        policy.application = entries<OriginalAcl>(list, place, &Reader::acl);
      } else if (key == "NetworkACLs") {
        policy.network = entries<OriginalAcl>(list, place, &Reader::acl);
      } else if (key == "Dependencies") {
        policy.dependencies = entries<OriginalTagRule>(list, place, &Reader::tag_rule);
      } else if (key == "TagSelectors" || key == "ExposureRules") {
        std::ranges::move(entries<OriginalTagRule>(list, place, &Reader::tag_rule),
                          std::back_inserter(policy.exposures));
      } else {
        unknown_.push_back(place);
      }
    }
    return policy;
  }

 private:
  template <typename Entry>
  std::vector<Entry> entries(const ordered_json& list, const std::string& place,
                             Entry (Reader::*read)(const ordered_json&, std::string)) {
    std::vector<Entry> result;
    if (list.is_null()) {
      return result;
    }
    if (!list.is_array()) {
      malformed(place, "a list");
    }
    for (std::size_t i = 0; i < list.size(); i++) {
      const std::string at = fmt::format("{}[{}]", place, i);
      if (!list[i].is_object()) {
        malformed(at, "a rule");
      }
      result.push_back((this->*read)(list[i], at));
    }
    return result;
  }

  OriginalAcl acl(const ordered_json& entry, std::string place) {
    OriginalAcl acl{.place = place,
                    .action = read_action(entry, place),
                    .addresses = {},
                    .ports = {},
                    .protocols = {}};
    for (const auto& [key, value] : entry.items()) {
      const std::string at = place + "." + key;
      if (key == "Address") {
        acl.addresses = {text(value, at)};
      } else if (key == "Addresses") {
        acl.addresses = texts(value, at);
      } else if (key == "Port") {
        acl.ports = {text(value, at)};
      } else if (key == "Ports") {
        acl.ports = texts(value, at);
      } else if (key == "Protocol") {
        acl.protocols = {text(value, at)};
      } else if (key == "Protocols") {
        acl.protocols = texts(value, at);
      } else if (key != "Policy") {
        unknown_.push_back(at);
      }
    }
    return acl;
  }

  OriginalTagRule tag_rule(const ordered_json& entry, std::string place) {
    OriginalTagRule rule{.place = place, .action = read_action(entry, place), .clauses = {}};
    for (const auto& [key, value] : entry.items()) {
      if (key == "Clause") {
        rule.clauses = entries<OriginalClause>(value, place + ".Clause", &Reader::clause);
      } else if (key != "Policy") {
        unknown_.push_back(place + "." + key);
      }
    }
    return rule;
  }

  OriginalClause clause(const ordered_json& entry, std::string place) {
    OriginalClause clause;
    for (const auto& [key, value] : entry.items()) {
      const std::string at = place + "." + key;
      if (key == "Key") {
        clause.key = text(value, at);
      } else if (key == "Operator") {
        clause.op = text(value, at);
      } else if (key == "Value") {
        clause.values = texts(value, at);
      } else {
        unknown_.push_back(at);
      }
    }
    return clause;
  }

  std::vector<std::string>& unknown_;
};

}  // namespace

Result<std::vector<OriginalPolicy>> read_original(std::string_view json,
                                                  std::vector<std::string>& unknown) {
  try {
    const auto root = ordered_json::parse(json);
    if (!root.is_object()) {
      malformed("the file", "an object of policies");
    }
    std::vector<OriginalPolicy> policies;
    Reader reader(unknown);
    for (const auto& [name, value] : root.items()) {
      policies.push_back(reader.policy(name, value));
    }
    return policies;
  } catch (const ordered_json::parse_error& error) {
    const auto before = json.substr(0, std::min(json.size(), error.byte == 0 ? 0 : error.byte - 1));
    const auto line = std::ranges::count(before, '\n') + 1;
    const std::size_t newline = before.rfind('\n');
    return fail(
        fmt::format("{}:{}: invalid JSON", line,
                    before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1));
  } catch (const Malformed& found) {
    return tl::unexpected<Error>(found.error);
  }
}

}  // namespace trireme::config
