// SPDX-License-Identifier: Apache-2.0
// Reads policy.toml and policy.d into a Policy.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "merged_section.hpp"
#include "peer_reader.hpp"

namespace trireme::config {

class PolicyReader {
 public:
  /// The maximum number of rules, and of networks: later stages number them with 16 bits.
  static constexpr std::size_t kMaxEntries = 65535;

  PolicyReader(policy::Policy& policy, Reporter& reporter) : policy_(policy), reporter_(reporter) {}

  /// Reads every document. Reads the networks of all files before the rules, so that a rule can use
  /// a network of a later file. Does not run the [[test]] entries.
  void read(const std::vector<Document>& documents);
  /// Ports that are valid, but not in the form that trireme itself writes.
  [[nodiscard]] const std::vector<policy::Finding>& port_forms() const { return port_forms_; }

 private:
  void read_defaults(const MergedSection& section);
  void read_network(const TableReader& reader);
  void read_network_name(const TableReader& reader, policy::Network& network);
  void read_cidrs(const TableReader& reader, policy::Network& network);
  void read_dns_names(const TableReader& reader, policy::Network& network);
  void read_rule(const TableReader& reader, policy::Rule::Action action);
  void read_rule_name(const TableReader& reader, policy::Rule& rule);
  void read_rule_ports(const TableReader& reader, policy::Rule& rule);
  [[nodiscard]] std::vector<policy::Peer> read_peers(const TableReader& reader,
                                                     std::string_view side);
  void check_rule(const TableReader& reader, const policy::Rule& rule);
  void check_rule_networks(const policy::Rule& rule);
  void read_test(const TableReader& reader);
  [[nodiscard]] std::optional<policy::TestPeer> read_test_peer(const TableReader& reader,
                                                               std::string_view side);
  [[nodiscard]] bool bounded(std::size_t count, std::string_view what, const TableReader& reader);

  policy::Policy& policy_;
  Reporter& reporter_;
  std::vector<policy::Finding> port_forms_;
  NetworkIndex networks_;
  std::map<std::string, policy::SourceLocation>
      network_places_;  // by lower-case name: @Corp and @corp would be easy to confuse
  std::map<std::string, policy::SourceLocation> rule_places_;
};

}  // namespace trireme::config
