// SPDX-License-Identifier: Apache-2.0
// TOML files to Policy and Identity: everything is read and checked first, every problem found in
// one run.
#pragma once

#include <string>
#include <vector>

#include "trireme/config/sandbox.hpp"
#include "trireme/credentials/trust.hpp"
#include "trireme/policy/identity.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::config {

/// One problem: "policy.toml:12:8: error: unknown key 'form' in [[allow]]; did you mean 'from'?"
struct Diagnostic {
  enum class Severity : std::uint8_t { warning, error };
  Severity severity = Severity::error;
  policy::SourceLocation where;  // line 0: the file as a whole
  std::string message;
  std::string hint;
  [[nodiscard]] std::string text() const;
};

/// A file's name as diagnostics show it, and its bytes: what the fuzz targets feed.
struct Source {
  std::string file;
  std::string content;
};

/// A file that [trust] names.
struct TrustFile {
  enum class Role : std::uint8_t { certificate, key, authority, revoked, psk };
  Role role = Role::certificate;
  std::string path;  // as it was written
  policy::SourceLocation where;
};

struct Configuration {
  policy::Policy policy;
  policy::Identity identity;
  std::vector<Diagnostic> diagnostics;
  std::vector<Source> policy_sources = {};  // what it was read from
  std::vector<Source> identity_sources = {};
  std::vector<TrustFile> trust_files = {};
  credentials::TrustMaterial trust = {};  // what they hold; empty where parse() made this
  [[nodiscard]] bool valid() const;       // no diagnostic is an error
};

/// Pure: no file is touched. Runs [[test]] too; a failing test is an error.
[[nodiscard]] Configuration parse(const std::vector<Source>& policy,
                                  const std::vector<Source>& identity);

/// Whether the files that [trust] names have to be readable. A daemon needs them. A repository of
/// policy has no keys: there, a file that cannot be read is a warning, and the contents of the
/// files are not checked against each other.
enum class KeyFiles : std::uint8_t { required, optional };

/// Reads DIR/policy.toml, DIR/policy.d/*.toml, DIR/identity.toml, DIR/identity.d/*.toml (lexical
/// order; a missing file is an empty one, a missing DIR is an error) and the files that [trust]
/// names, which credentials::Trust::load() must accept. File names in diagnostics are relative to
/// DIR.
[[nodiscard]] Configuration load(const std::string& directory, KeyFiles keys = KeyFiles::required);
/// Reads DIR/policy.toml and DIR/policy.d/*.toml with the same diagnostics as load(), then `more`,
/// and runs every [[test]].
[[nodiscard]] Configuration load_policy(const std::string& directory,
                                        const std::vector<Source>& more);
/// The same as the daemon would read it whose unit has this sandbox: what the sandbox hides or
/// keeps from it is an error as well, with the reason. Unless it `reads` this very directory, only
/// the absolute paths of [trust] are looked at so.
[[nodiscard]] Configuration load_as_daemon(const std::string& directory, const Sandbox& sandbox,
                                           bool reads, KeyFiles keys = KeyFiles::required);
/// load() for a check: as the daemon would read it, where its unit is installed here. It reads
/// /etc/trireme.
[[nodiscard]] Configuration check(const std::string& directory, KeyFiles keys = KeyFiles::required);

/// To what parse() made, adds what load() reads beyond TOML: the host's own name where the files
/// give none, and the files of [trust] with what is wrong with them.
void complete(const std::string& directory, Configuration& configuration);

}  // namespace trireme::config
