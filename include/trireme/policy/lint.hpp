// SPDX-License-Identifier: Apache-2.0
// Finds what is valid in a policy but probably not meant: selectors that match nobody, rules
// without effect, rules that cover more than their name says.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

struct Finding {
  enum class Kind : std::uint8_t {
    selector,   // contradicts itself, or is probably meant as an address, a DNS name, the value of
                // a label, or a regular expression
    shadowed,   // another rule makes the rule have no effect
    duplicate,  // the rule repeats another one
    name,       // the rule covers more than its name says
    network,    // no rule uses the network
    ports,      // ports in another form than usual, or listed twice
    unfinished  // not everything was compared
  };
  Kind kind = Kind::selector;
  SourceLocation where;
  std::string message;
  std::string hint = {};
};

/// "selector", "shadowed", …: as in JSON.
[[nodiscard]] const char* text(Finding::Kind kind);

/// Whether a load of the files warns of it too, not only lint.
[[nodiscard]] bool warns_at_load(Finding::Kind kind);

/// Labels that exist: those of workloads, and those that files give to workloads.
class Vocabulary {
 public:
  void add(const LabelSet& labels);
  void add(const std::string& key, const std::string& value);
  /// A key whose values are not known.
  void add_key(const std::string& key) { values_.try_emplace(key); }
  /// Whether any label has the key.
  [[nodiscard]] bool has_key(std::string_view key) const { return values_.contains(key); }
  /// Whether any label has the key and a value that the pattern matches.
  [[nodiscard]] bool has_value(std::string_view key, std::string_view pattern) const;
  /// The keys that have this value; empty if none has.
  [[nodiscard]] const std::set<std::string>& keys_of(std::string_view value) const;

 private:
  std::map<std::string, std::set<std::string>, std::less<>> values_;  // by key
  std::map<std::string, std::set<std::string>, std::less<>> keys_;    // by value
};

/// `known`: labels of workloads and of the identity files. Labels in the policy itself are added.
/// The result is in the order of the rules and networks, by kind. Pure.
[[nodiscard]] std::vector<Finding> lint(const Policy& policy, Vocabulary known);

}  // namespace trireme::policy
