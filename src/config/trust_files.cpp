// SPDX-License-Identifier: Apache-2.0
#include "trust_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "root_reads.hpp"
#include "trireme/base/file.hpp"

namespace trireme::config {
namespace {

using Role = TrustFile::Role;

constexpr std::size_t kMaxTrustFileBytes = std::size_t{1} << 20U;

std::string user_name(uid_t uid) {
  const passwd* user = ::getpwuid(uid);
  return user == nullptr ? std::to_string(uid) : user->pw_name;
}

// A key that another user can read is not secret, and one that another user can write is not ours.
void check_secret(const TrustFile& file, const std::string& path, const struct stat& status,
                  KeyFiles keys, Reporter& reporter) {
  const uid_t daemon = keys == KeyFiles::for_root ? 0 : ::geteuid();
  if (status.st_uid != 0 && status.st_uid != daemon) {
    reporter.error(file.where,
                   fmt::format("'{}' contains a secret and is owned by user {}", path,
                               user_name(status.st_uid)),
                   fmt::format("run 'chown root {}'", path));
  }
  const auto mode = status.st_mode & 07777U;
  if ((mode & S_IRWXO) != 0) {
    reporter.error(
        file.where,
        fmt::format("'{}' contains a secret that every user of this host can access (mode {:04o})",
                    path, mode),
        fmt::format("run 'chmod 600 {}'", path));
  } else if ((mode & S_IRWXG) != 0) {
    reporter.error(
        file.where,
        fmt::format("'{}' contains a secret that its group can access (mode {:04o})", path, mode),
        fmt::format("run 'chmod 600 {}'", path));
  }
}

bool is_denied_to_us(const std::string& path) {
  return ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0 && errno == EACCES;
}

void report_unreadable(const TrustFile& file, const std::string& path, const Error& error,
                       KeyFiles keys, Reporter& reporter) {
  const bool is_for_others = keys == KeyFiles::for_root && is_denied_to_us(path);
  if (keys == KeyFiles::optional || is_for_others) {
    reporter.warn(file.where, error.message,
                  is_for_others ? "run as root to check the files of [trust]"
                                : "the files of [trust] are not checked");
  } else {
    reporter.error(file.where, error.message, kept_from_root(path) ? mode_hint(path) : error.hint);
  }
}

std::optional<credentials::TrustMaterial::File> read(const TrustFile& file, const std::string& path,
                                                     KeyFiles keys, Reporter& reporter) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) {
    const Error error = fail_errno(fmt::format("cannot read '{}'", path)).value();
    report_unreadable(file, path, error, keys, reporter);
    return std::nullopt;
  }
  if (!S_ISREG(status.st_mode)) {
    reporter.error(file.where, fmt::format("'{}' is not a regular file", path));
    return std::nullopt;
  }
  if (file.role == Role::key || file.role == Role::psk) {
    check_secret(file, path, status, keys, reporter);
  }
  auto content = read_file(path, kMaxTrustFileBytes);
  if (!content) {
    report_unreadable(file, path, content.error(), keys, reporter);
    return std::nullopt;
  }
  return credentials::TrustMaterial::File{path, std::move(*content)};
}

// Copies the file instead of moving it: a moved-from short string can keep its characters, which
// would not be wiped.
void put(credentials::TrustMaterial& material, Role role,
         const credentials::TrustMaterial::File& file) {
  switch (role) {
    case Role::certificate:
      material.certificate = file;
      break;
    case Role::key:
      material.key = file;
      break;
    case Role::authority:
      material.authorities.push_back(file);
      break;
    case Role::revoked:
      material.revoked.push_back(file);
      break;
    case Role::psk:
      material.psk = file;
      break;
  }
}

// Whether the material is either a shared secret, or a certificate with key and CAs. IdentityReader
// reports other combinations.
bool is_complete(const credentials::TrustMaterial& material) {
  const bool certificate = !material.certificate.path.empty();
  const bool whole =
      certificate == !material.key.path.empty() && certificate == !material.authorities.empty();
  return whole && certificate == material.psk.path.empty();
}

}  // namespace

credentials::TrustMaterial read_trust(const std::string& directory,
                                      const std::vector<TrustFile>& files, const config::Host& host,
                                      KeyFiles keys, Reporter& reporter) {
  credentials::TrustMaterial material;
  material.host_name = host.name;
  material.host_labels = host.labels;
  const auto absolute = [&directory](const TrustFile& file) {
    return file.path.starts_with('/') ? file.path : directory + "/" + file.path;
  };
  bool all = true;
  for (const TrustFile& file : files) {
    auto content = read(file, absolute(file), keys, reporter);
    all = all && content;
    if (content) {
      put(material, file.role, *content);
    }
  }
  if (!all || !is_complete(material)) {
    return material;
  }
  const auto now = std::chrono::system_clock::now();
  const auto loaded = credentials::Trust::load(material, nullptr, now);
  if (loaded) {
    if (const auto doubt = (*loaded)->doubt(now)) {
      const auto certificate = std::ranges::find(files, Role::certificate, &TrustFile::role);
      reporter.warn((certificate == files.end() ? files.front() : *certificate).where,
                    doubt->message, doubt->hint);
    }
    return material;
  }
  for (const credentials::TrustProblem& problem : loaded.error()) {
    const auto named = std::ranges::find_if(
        files, [&](const TrustFile& file) { return absolute(file) == problem.path; });
    reporter.error((named == files.end() ? files.front() : *named).where, problem.message,
                   problem.hint);
  }
  return material;
}

}  // namespace trireme::config
