// SPDX-License-Identifier: Apache-2.0
// Reads TOML files into a Policy and an Identity. One run reports every problem, not only the
// first.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "trireme/config/host.hpp"
#include "trireme/config/sandbox.hpp"
#include "trireme/credentials/trust.hpp"
#include "trireme/policy/expiry.hpp"
#include "trireme/policy/lint.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::config {

/// One problem: "policy.toml:12:8: error: unknown key 'form' in [[allow]]; did you mean 'from'?"
struct Diagnostic {
  enum class Severity : std::uint8_t { warning, error };
  Severity severity = Severity::error;
  policy::SourceLocation where;  // line 0: the whole file
  std::string message;
  std::string hint;
  /// Of a warning that policy::lint() found: the kind, as policy::text() says it. Else empty.
  std::string kind = {};
  [[nodiscard]] std::string text() const;
};

/// A file's name as diagnostics show it, and its bytes. Fuzz targets create these without files.
struct Source {
  std::string file;
  std::string content;
  unsigned mode = 0;  // permissions of the file; 0: not known. No part of any digest
};

/// A file listed in [trust].
struct TrustFile {
  enum class Role : std::uint8_t { certificate, key, authority, revoked, psk };
  Role role = Role::certificate;
  std::string path;  // as written in the file; may be relative
  policy::SourceLocation where;
};

struct Configuration {
  policy::Policy policy;
  Host host;
  std::vector<Diagnostic> diagnostics;
  std::vector<Source> policy_sources = {};  // the files that it was read from
  std::vector<Source> identity_sources = {};
  std::vector<TrustFile> trust_files = {};
  std::vector<policy::Finding> port_forms = {};  // ports that are valid in an unusual form
  credentials::TrustMaterial trust = {};         // contents of trust_files; empty after parse()
  /// Of load(). False if reading a TOML file failed in a way that can pass: a mount can be late.
  bool files_read = false;
  /// Of load(): no error is in the TOML files. Those of [trust] can have some.
  bool files_valid = false;
  [[nodiscard]] bool valid() const;  // true if no diagnostic is an error
};

/// Pure: reads no file. Also runs the [[test]] entries; a failing test is an error. If the policy
/// has no errors, the findings of policy::lint() for which warns_at_load() are warnings.
[[nodiscard]] Configuration parse(const std::vector<Source>& policy,
                                  const std::vector<Source>& identity);

/// Whether the files listed in [trust] must be readable. The daemon requires them. A policy
/// repository has no keys: with `optional`, an unreadable file is only a warning, and the contents
/// of the files are then not checked against each other. With `for_root`, that is so for a file
/// that this user may not read, because the daemon may.
enum class KeyFiles : std::uint8_t { required, optional, for_root };

inline constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20U;  // of one TOML file
/// Of all TOML files of a directory. The daemon also keeps them as JSON (last-good.json, the
/// history, pending.json), which can be twice as long.
inline constexpr std::size_t kMaxTotalBytes = std::size_t{32} << 20U;

/// Reads DIR/policy.toml, DIR/policy.d/*.toml, DIR/identity.toml, DIR/identity.d/*.toml (in byte
/// order of the names; a missing file counts as empty, a missing DIR is an error) and the files
/// listed in [trust], which credentials::Trust::load() must accept. File names in diagnostics are
/// relative to DIR.
[[nodiscard]] Configuration load(const std::string& directory, KeyFiles keys = KeyFiles::required);
/// Like load(), but as the files would be read in the directory `target`: relative paths in [trust]
/// are relative to it.
[[nodiscard]] Configuration load_for(const std::string& target, const std::string& directory,
                                     KeyFiles keys = KeyFiles::required);
/// Reads DIR/policy.toml and DIR/policy.d/*.toml with the same diagnostics as load(), then the
/// sources `more`, and runs every [[test]] of all of them. Reads no identity files.
[[nodiscard]] Configuration load_policy(const std::string& directory,
                                        const std::vector<Source>& more);
/// Like load(), but from the point of view of a daemon whose unit has this sandbox: a file that the
/// sandbox hides or makes unreadable is also an error, with the reason. `reads`: `directory` is the
/// one that the daemon reads. If false, only absolute paths in [trust] are checked against the
/// sandbox.
[[nodiscard]] Configuration load_as_daemon(const std::string& directory, const Sandbox& sandbox,
                                           bool reads, KeyFiles keys = KeyFiles::required);
/// A warning for each rule that has expired.
[[nodiscard]] std::vector<Diagnostic> expired_rules(const policy::Policy& policy,
                                                    const policy::Now& now);
/// load() for `--check`, with the warnings of expired_rules() at the present time: as the daemon
/// would read it if trireme.service is installed on this host (see load_as_daemon()), otherwise
/// plain load(). The unit says which directory the daemon reads. Needs no root: for other users the
/// modes of files are evaluated, and keys that only root may read are not checked.
[[nodiscard]] Configuration check(const std::string& directory, KeyFiles keys = KeyFiles::required);

/// Adds to a result of parse() what load() reads in addition to the TOML files: the host name, if
/// the files do not set one, and the files of [trust] with their diagnostics.
void complete(const std::string& directory, Configuration& configuration);
/// The first of these: sets Host::name to this machine's if the files set none.
void name_host(Host& host);

}  // namespace trireme::config
