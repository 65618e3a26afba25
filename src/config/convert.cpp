// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/convert.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "original_words.hpp"

namespace trireme::config {
namespace {

constexpr const char* kHeader =
    "# Converted from a policy file of the original Trireme by `trirectl policy convert`.\n"
    "#\n"
    "# In the original, a policy applied to the containers with the label PolicyIndex=NAME (or\n"
    "# user=NAME). Here, each rule selects that label. In the original, containers without it\n"
    "# could talk if any one label was equal; `baseline = \"any-common-label\"` would extend this\n"
    "# to all containers, so the baseline is \"none\".\n"
    "# In the original, the first matching ACL decided; here, a [[deny]] always wins.\n"
    "\n[defaults]\nbaseline = \"none\"\n";

std::string toml_text(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
    }
    result += c;
  }
  return result + '"';
}

std::string list(const std::vector<std::string>& texts) {
  std::string result;
  for (const std::string& text : texts) {
    result += (result.empty() ? "" : ", ") + toml_text(text);
  }
  return texts.size() == 1 ? result : "[" + result + "]";
}

/// Replaces control characters, so that the text cannot end the comment that contains it.
std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

class Converter {
 public:
  Converted convert(const std::vector<OriginalPolicy>& policies,
                    const std::vector<std::string>& unknown) {
    for (const std::string& place : unknown) {
      leave_out(place, "unknown key");
    }
    const bool two_sided = std::ranges::any_of(
        policies, [](const OriginalPolicy& policy) { return policy.dependencies.has_value(); });
    for (const OriginalPolicy& policy : policies) {
      if (!usable(policy)) {
        continue;
      }
      rules_ += fmt::format("\n# {}\n", one_line(policy.name));
      for (const OriginalAcl& acl : policy.application) {
        convert(acl, own(policy), true);
      }
      for (const OriginalAcl& acl : policy.network) {
        convert(acl, own(policy), false);
      }
      for (const OriginalTagRule& rule : policy.exposures) {
        two_sided ? from_dependents(rule, policy, policies) : convert(rule, {}, own(policy));
      }
      for (const OriginalTagRule& rule :
           policy.dependencies.value_or(std::vector<OriginalTagRule>{})) {
        if (!rule.action.accepts()) {  // accepting ones were combined with the exposures above
          convert(rule, own(policy), {});
        }
      }
    }
    return {kHeader + networks_ + rules_, std::move(left_out_)};
  }

 private:
  static std::string own(const OriginalPolicy& policy) {
    return own_selector(policy.name).value_or("");
  }

  bool usable(const OriginalPolicy& policy) {
    if (policy.name == "default") {
      leave_out(policy.name, "the original Trireme replaces a policy of this name with its own");
      return false;
    }
    if (!own_selector(policy.name)) {
      leave_out(policy.name,
                "the name is not a valid label value, so no workload could have this policy");
      return false;
    }
    return true;
  }

  /// Why an action cannot be expressed as a rule; nullptr if it can.
  static const char* obstacle(const OriginalAction& action) {
    return action.observes()   ? "it only observes; write it by hand with mode = \"audit\""
           : action.encrypts() ? "it requires encryption, which trireme does not provide"
           : action.accepts() == action.rejects() ? "it neither accepts nor rejects"
                                                  : nullptr;
  }

  void leave_out(const std::string& place, const std::string& why, bool rejects = false) {
    left_out_.push_back(one_line(fmt::format(
        "{}: {}{}", place, why, rejects ? "; it rejects: write a [[deny]] by hand" : "")));
    rules_ += "\n# NOT EXPRESSED: " + left_out_.back() + "\n";
  }

  void write(const std::string& place, const OriginalAction& action, const std::string& from,
             const std::string& to, const std::vector<std::string>& ports) {
    rules_ += fmt::format("\n[[{}]]\nname = {}\nfrom = {}\nto = {}\n",
                          action.accepts() ? "allow" : "deny", toml_text(one_line(place)),
                          toml_text(from), toml_text(to));
    if (!ports.empty()) {
      rules_ += "ports = " + (ports.size() == 1 ? "[" + list(ports) + "]" : list(ports)) + "\n";
    }
    if (action.logs()) {
      rules_ += "log = true\n";
    }
  }

  void convert(const OriginalAcl& acl, const std::string& own, bool outwards) {
    const char* in_the_way = obstacle(acl.action);
    const auto ports = original_services(acl);
    const auto network = network_of(acl);
    if (in_the_way != nullptr || !ports || !network) {
      leave_out(acl.place,
                in_the_way != nullptr ? in_the_way
                : !ports              ? ports.error().message
                                      : network.error().message,
                acl.action.rejects());
      return;
    }
    outwards ? write(acl.place, acl.action, own, *network, *ports)
             : write(acl.place, acl.action, *network, own, *ports);
  }

  /// The empty side becomes the selector of the rule's clauses.
  void convert(const OriginalTagRule& rule, const std::string& from, const std::string& to) {
    const char* in_the_way = obstacle(rule.action);
    const auto who = original_selector(rule);
    if (in_the_way != nullptr || !who || who->empty()) {
      leave_out(rule.place,
                in_the_way != nullptr ? in_the_way
                : !who                ? who.error().message
                                      : "it has no clause, so it matches nothing",
                rule.action.rejects());
      return;
    }
    write(rule.place, rule.action, from.empty() ? *who : from, to.empty() ? *who : to, {});
  }

  /// In the original, both ends had to agree: the sender's policy needed a dependency that matches
  /// the receiver, and the receiver's policy an exposure that matches the sender. Writes one rule
  /// for each combination.
  void from_dependents(const OriginalTagRule& exposure, const OriginalPolicy& receiver,
                       const std::vector<OriginalPolicy>& policies) {
    if (!exposure.action.accepts() || obstacle(exposure.action) != nullptr ||
        !original_selector(exposure)) {
      convert(exposure, {}, own(receiver));
      return;
    }
    const std::string senders = *original_selector(exposure);
    for (const OriginalPolicy& sender : policies) {
      if (!sender.dependencies || sender.name == "default" || !own_selector(sender.name)) {
        continue;
      }
      for (const OriginalTagRule& dependency : *sender.dependencies) {
        if (!dependency.action.accepts()) {
          continue;
        }
        const char* in_the_way = obstacle(dependency.action);
        const auto receivers = original_selector(dependency);
        if (in_the_way != nullptr || !receivers || receivers->empty() || senders.empty()) {
          if (reported_.insert(dependency.place).second) {
            leave_out(dependency.place, in_the_way != nullptr ? in_the_way
                                        : !receivers          ? receivers.error().message
                                                     : "it has no clause, so it matches nothing");
          }
          continue;
        }
        write(exposure.place + " and " + dependency.place,
              {exposure.action.bits | (dependency.action.bits & 8U)}, own(sender) + ", " + senders,
              own(receiver) + ", " + *receivers, {});
      }
    }
  }

  /// Returns the network of the ACL's addresses ("@net-1"). Writes its [[network]] on first use.
  Result<std::string> network_of(const OriginalAcl& acl) {
    std::vector<std::string> cidrs;
    for (const std::string& address : acl.addresses) {
      auto cidr = original_prefix(address);
      if (!cidr) {
        return tl::unexpected(cidr.error());
      }
      cidrs.push_back(std::move(*cidr));
    }
    if (cidrs.empty()) {
      return fail("it has no address");
    }
    std::ranges::sort(cidrs);
    cidrs.erase(std::unique(cidrs.begin(), cidrs.end()), cidrs.end());
    const auto [known, is_new] =
        names_.try_emplace(cidrs, fmt::format("net-{}", names_.size() + 1));
    if (is_new) {
      networks_ += fmt::format("\n[[network]]\nname = \"{}\"\ncidrs = {}\n", known->second,
                               cidrs.size() == 1 ? "[" + list(cidrs) + "]" : list(cidrs));
    }
    return "@" + known->second;
  }

  std::map<std::vector<std::string>, std::string> names_;  // network names by addresses
  std::set<std::string> reported_;
  std::string networks_;
  std::string rules_;
  std::vector<std::string> left_out_;
};

}  // namespace

Result<Converted> convert_original(std::string_view json) {
  std::vector<std::string> unknown;
  const auto policies = read_original(json, unknown);
  if (!policies) {
    return tl::unexpected(policies.error());
  }
  return Converter().convert(*policies, unknown);
}

}  // namespace trireme::config
