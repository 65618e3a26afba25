// SPDX-License-Identifier: Apache-2.0
#include "parse.hpp"

#include "policy_reader.hpp"
#include "test_runner.hpp"
#include "trireme/config/file_set.hpp"

namespace trireme::config {
namespace {

std::vector<Document> parse_documents(const std::vector<Source>& sources, Reporter& reporter) {
  std::vector<Document> documents;
  for (const Source& source : sources) {
    if (auto document = Document::parse(source, reporter)) {
      documents.push_back(std::move(*document));
    }
  }
  return documents;
}

void warn_of_findings(const Parsed& parsed, Reporter& reporter) {
  for (const policy::Finding& finding : policy::lint(parsed.policy, labels_of(parsed.host))) {
    if (policy::warns_at_load(finding.kind)) {
      reporter.warn(finding);
    }
  }
}

}  // namespace

Parsed parse_sources(const std::vector<Source>& policy, const std::vector<Source>& identity,
                     Reporter& reporter) {
  Parsed parsed;
  const std::size_t errors = reporter.errors();
  PolicyReader policy_reader(parsed.policy, reporter);
  policy_reader.read(parse_documents(policy, reporter));
  parsed.policy.digest = digest_of(policy);
  parsed.port_forms = policy_reader.port_forms();
  const bool policy_is_valid = reporter.errors() == errors;
  if (policy_is_valid) {
    run_tests(parsed.policy, reporter);
  }
  IdentityReader reader(parsed.host, reporter);
  reader.read(parse_documents(identity, reporter));
  parsed.trust_files = reader.trust_files();
  parsed.host.digest = digest_of(identity);
  if (policy_is_valid) {
    warn_of_findings(parsed, reporter);
  }
  return parsed;
}

std::vector<std::string> file_names(const std::vector<Source>& policy,
                                    const std::vector<Source>& identity) {
  std::vector<std::string> names;
  for (const auto* sources : {&policy, &identity}) {
    for (const Source& source : *sources) {
      names.push_back(source.file);
    }
  }
  return names;
}

Configuration parse(const std::vector<Source>& policy, const std::vector<Source>& identity) {
  Reporter reporter;
  Parsed parsed = parse_sources(policy, identity, reporter);
  return {std::move(parsed.policy),
          std::move(parsed.host),
          reporter.take(file_names(policy, identity)),
          policy,
          identity,
          std::move(parsed.trust_files),
          std::move(parsed.port_forms)};
}

}  // namespace trireme::config
