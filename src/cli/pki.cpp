// SPDX-License-Identifier: Apache-2.0
// trirectl pki: creates certificates and secrets for [trust], without the daemon.
#include "trireme/credentials/pki.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "command.hpp"
#include "trireme/base/file.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/policy/selector.hpp"

namespace trireme::cli {
namespace {

constexpr unsigned kSecret = 0600;
constexpr unsigned kPublic = 0644;

struct NewFile {
  std::string path;
  std::string content;
  unsigned mode;
};

struct Wanted {
  std::string directory;
  std::string name;  // trust domain (init) or host (issue)
  std::string labels;
  unsigned days = 365;
  std::string out;
};

/// Writes all files or none. An existing file is an error before anything is written, and never
/// overwritten, even if another program creates it meanwhile.
Status write_all(const std::vector<NewFile>& files) {
  for (const NewFile& file : files) {
    struct stat status = {};
    if (::lstat(file.path.c_str(), &status) == 0) {
      return fail(fmt::format("'{}' already exists; not overwritten", file.path),
                  "remove it, or choose another directory");
    }
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (Status written = write_new_file(files[i].path, files[i].content, files[i].mode); !written) {
      for (std::size_t done = 0; done < i; ++done) {
        ::unlink(files[done].path.c_str());
      }
      return written;
    }
  }
  return {};
}

Status make_directory(const std::string& path, unsigned mode) {
  return ::mkdir(path.c_str(), mode) == 0 || errno == EEXIST
             ? Status{}
             : fail_errno(fmt::format("cannot create directory '{}'", path));
}

int finish(const Globals& globals, const std::vector<NewFile>& files) {
  if (const Status written = write_all(files); !written) {
    return report(globals, written.error());
  }
  nlohmann::json paths = nlohmann::json::array();
  for (const NewFile& file : files) {
    paths.push_back(file.path);
    if (!globals.json) {
      fmt::print("{}\n", printable(file.path));
    }
  }
  if (globals.json) {
    print_json({{"written", paths}});
  }
  return kYes;
}

int init(const Globals& globals, const Wanted& wanted) {
  auto random = credentials::Random::open();
  if (!random) {
    return report(globals, random.error());
  }
  const auto made =
      credentials::make_authority(wanted.name, std::chrono::system_clock::now(), *random);
  if (!made) {
    return report(globals, made.error());
  }
  if (const Status there = make_directory(wanted.directory, 0700); !there) {
    return report(globals, there.error());
  }
  return finish(globals, {{wanted.directory + "/ca.pem", made->certificate, kPublic},
                          {wanted.directory + "/ca.key", made->key, kSecret}});
}

/// Removes blanks at both ends: --labels accepts "app=web, env=dev", as selectors do.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const std::size_t first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos
             ? std::string_view()
             : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

Result<credentials::HostRequest> request(const Wanted& wanted, bool limited) {
  credentials::HostRequest request{.host = wanted.name, .days = wanted.days};
  if (!limited) {
    return request;
  }
  request.labels.emplace();
  for (std::size_t at = 0; at <= wanted.labels.size() && !wanted.labels.empty();) {
    const std::size_t comma = std::min(wanted.labels.find(',', at), wanted.labels.size());
    auto label = policy::parse_label_pattern(
        trimmed(std::string_view(wanted.labels).substr(at, comma - at)));
    if (!label) {
      return fail_usage(label.error());
    }
    request.labels->push_back(std::move(*label));
    at = comma + 1;
  }
  return request;
}

Result<credentials::TrustMaterial::File> read(const std::string& path) {
  auto content = read_file(path);
  if (!content) {
    return fail(content.error().message, "'trirectl pki init' creates a CA");
  }
  return credentials::TrustMaterial::File{path, std::move(*content)};
}

Result<credentials::Issued> make(const Wanted& wanted, bool limited,
                                 const credentials::TrustMaterial::File& authority) {
  auto random = credentials::Random::open();
  if (!random) {
    return tl::unexpected(random.error());
  }
  const auto key = read(wanted.directory + "/ca.key");
  if (!key) {
    return tl::unexpected(key.error());
  }
  const auto host = request(wanted, limited);
  if (!host) {
    return tl::unexpected(host.error());
  }
  return credentials::issue(authority, *key, *host, std::chrono::system_clock::now(), *random);
}

int issue(const Globals& globals, const Wanted& wanted, bool limited) {
  const auto authority = read(wanted.directory + "/ca.pem");
  if (!authority) {
    return report(globals, authority.error());
  }
  const auto issued = make(wanted, limited, *authority);
  if (!issued) {
    return report(globals, issued.error());
  }
  if (const Status there = make_directory(wanted.out, 0755); !there) {
    return report(globals, there.error());
  }
  return finish(globals, {{wanted.out + "/host.pem", issued->certificate, kPublic},
                          {wanted.out + "/host.key", issued->key, kSecret},
                          {wanted.out + "/ca.pem", authority->content, kPublic}});
}

int psk(const Globals& globals, const std::string& file) {
  auto random = credentials::Random::open();
  const auto secret = random ? credentials::make_secret(*random)
                             : Result<std::string>(tl::unexpected(random.error()));
  return secret ? finish(globals, {{file, *secret, kSecret}}) : report(globals, secret.error());
}

CLI::App* add(CLI::App& parent, Globals& globals, const std::string& name,
              const std::string& description) {
  CLI::App* command = parent.add_subcommand(name, description);
  add_output(*command, globals);
  return command;
}

}  // namespace

void add_pki(CLI::App& parent, Globals& globals, Action& action) {
  const auto wanted = std::make_shared<Wanted>();
  CLI::App* pki = parent.add_subcommand("pki", "Create certificates and secrets for [trust]");
  pki->require_subcommand(1);
  add_output(*pki, globals);

  CLI::App* command = add(*pki, globals, "init", "Create a CA: DIR/ca.pem and DIR/ca.key");
  command->add_option("DIR", wanted->directory, "directory of the CA, created if missing")
      ->required();
  command->add_option("--name", wanted->name, "trust domain, such as fleet.example.org")
      ->required()
      ->type_name("TRUST-DOMAIN");
  command->callback([&globals, &action, wanted] {
    action = [&globals, wanted] { return init(globals, *wanted); };
  });

  command = add(*pki, globals, "issue", "Create host.pem, host.key and ca.pem for a host");
  command->add_option("DIR", wanted->directory, "directory of the CA")->required();
  command->add_option("--host", wanted->name, "name of the host")->required()->type_name("HOST");
  const auto* labels = command
                           ->add_option("--labels", wanted->labels,
                                        "labels it can vouch for: 'app=web*,env=dev' (any)")
                           ->type_name("PATTERNS");
  command->add_option("--days", wanted->days, "validity of the certificate in days (365)")
      ->check(CLI::Range(1U, 3650U));
  command->add_option("--out", wanted->out, "directory for the three files, created if missing")
      ->required()
      ->type_name("DIR");
  command->callback([&globals, &action, wanted, labels] {
    action = [&globals, wanted, limited = labels->count() > 0] {
      return issue(globals, *wanted, limited);
    };
  });

  command = add(*pki, globals, "psk", "Write a new shared secret");
  command->add_option("FILE", wanted->out, "file to create, for psk_file in [trust]")->required();
  command->callback([&globals, &action, wanted] {
    action = [&globals, wanted] { return psk(globals, wanted->out); };
  });
}

}  // namespace trireme::cli
