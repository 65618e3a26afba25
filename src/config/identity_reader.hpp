// SPDX-License-Identifier: Apache-2.0
// Reads identity.toml and identity.d into an Identity.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "merged_section.hpp"

namespace trireme::config {

class IdentityReader {
 public:
  IdentityReader(config::Host& host, Reporter& reporter) : host_(host), reporter_(reporter) {}

  void read(const std::vector<Document>& documents);
  [[nodiscard]] const std::vector<TrustFile>& trust_files() const { return trust_files_; }

 private:
  void read_host(const MergedSection& section);
  void read_acknowledged(const TableReader& section);
  void check_peers();
  void read_trust(const MergedSection& section);
  void check_trust(const MergedSection& section);
  [[nodiscard]] std::string read_trust_file(const TableReader& section, std::string_view key,
                                            TrustFile::Role role);
  [[nodiscard]] std::vector<std::string> read_trust_files(const TableReader& section,
                                                          std::string_view key,
                                                          TrustFile::Role role);
  void read_docker(const MergedSection& section);
  void read_label_keys(const MergedSection& section);
  void read_sockets(const TableReader& section);
  void read_label_from(const TableReader& section);
  [[nodiscard]] std::vector<std::string> read_key_patterns(const TableReader& section,
                                                           std::string_view key);
  void read_unit(const TableReader& reader);
  void read_unit_name(const TableReader& reader, config::UnitRule& unit);
  void check_unit_sizes();
  void read_launch(const TableReader& reader);
  void read_grants(const TableReader& reader, config::LaunchGrant& launch);
  void read_metrics(const MergedSection& section);

  config::Host& host_;
  Reporter& reporter_;
  std::vector<TrustFile> trust_files_;
  policy::SourceLocation peers_place_;
  std::map<std::string, policy::SourceLocation> unit_places_;
};

}  // namespace trireme::config
