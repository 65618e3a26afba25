// SPDX-License-Identifier: Apache-2.0
#include "trirun_options.hpp"

#include <getopt.h>

#include "trireme/control/instance.hpp"

namespace trireme::cli {
namespace {

constexpr const char* kSeeHelp = "see 'trirun --help'";

enum Long : int { kUnit = 256, kUid, kGid, kSlice, kRuntimeDir, kHelp, kVersion };

const option kOptions[] = {{"label", required_argument, nullptr, 'l'},
                           {"property", required_argument, nullptr, 'p'},
                           {"unit", required_argument, nullptr, kUnit},
                           {"slice", required_argument, nullptr, kSlice},
                           {"uid", required_argument, nullptr, kUid},
                           {"gid", required_argument, nullptr, kGid},
                           {"runtime-dir", required_argument, nullptr, kRuntimeDir},
                           {"help", no_argument, nullptr, kHelp},
                           {"version", no_argument, nullptr, kVersion},
                           {nullptr, 0, nullptr, 0}};

Status add_label(TrirunOptions& options, const char* text) {
  const auto label = policy::parse_label(text);
  if (!label) {
    return tl::unexpected(label.error());
  }
  if (options.labels.find(label->key) != nullptr) {
    return fail("label '" + label->key + "' is given more than once", "give each label key once");
  }
  return options.labels.set(label->key, label->value);
}

Status add_property(TrirunOptions& options, const std::string& text) {
  if (text.find('=') == std::string::npos || text.front() == '=') {
    return fail("invalid property '" + text + "': not NAME=VALUE", "for example: -p MemoryMax=1G");
  }
  options.properties.push_back(text);
  return {};
}

Status set_name(std::optional<std::string>& target, const char* what, const char* text) {
  if (*text == '\0') {
    return fail(std::string(what) + " is empty", kSeeHelp);
  }
  target = text;
  return {};
}

Status apply(TrirunOptions& options, int letter, const char* word) {
  switch (letter) {
    case 'l':
      return add_label(options, optarg);
    case 'p':
      return add_property(options, optarg);
    case kSlice:
      return add_property(options, std::string("Slice=") + optarg);
    case kUnit:
      options.unit = optarg;
      return options.unit.empty() ? fail("--unit is empty", kSeeHelp) : Status{};
    case kUid:
      return set_name(options.user, "--uid", optarg);
    case kGid:
      return set_name(options.group, "--gid", optarg);
    case kRuntimeDir:
      options.runtime_dir = optarg;
      return {};
    case kHelp:
      options.wish = TrirunOptions::Wish::help;
      return {};
    case kVersion:
      options.wish = TrirunOptions::Wish::version;
      return {};
    case ':':
      return fail(std::string("option '") + word + "' needs a value", kSeeHelp);
    default:
      return fail(std::string("unknown option '") + word + "'", kSeeHelp);
  }
}

}  // namespace

Result<TrirunOptions> parse_trirun(int argc, char** argv) {
  TrirunOptions options;
  options.runtime_dir = control::default_runtime_dir();
  optind = 0;  // glibc: also resets the internal state of getopt
  opterr = 0;
  while (true) {
    const char* word = optind < argc ? argv[optind == 0 ? 1 : optind] : nullptr;
    // '+': stop at the first argument that is not an option; what follows belongs to the command.
    const int letter = ::getopt_long(argc, argv, "+:l:p:", kOptions,
                                     nullptr);  // NOLINT(concurrency-mt-unsafe): one thread
    if (letter == -1) {
      break;
    }
    if (auto status = apply(options, letter, word == nullptr ? "" : word); !status) {
      return tl::unexpected(status.error());
    }
    if (options.wish != TrirunOptions::Wish::run) {
      return options;
    }
  }
  options.command.assign(argv + optind, argv + argc);
  if (options.labels.empty()) {
    return fail("at least one --label is required",
                "for example: trirun --label app=web -- COMMAND");
  }
  if (options.command.empty()) {
    return fail("missing command", kSeeHelp);
  }
  options.command.push_back(nullptr);
  return options;
}

const char* trirun_usage() {
  return "Usage: trirun --label KEY=VALUE [OPTION...] [--] COMMAND [ARG...]\n"
         "\n"
         "Runs COMMAND as a workload in a scope of its own, under the policy for its\n"
         "labels from its first instruction. Terminal, environment, signals and exit code\n"
         "are those of COMMAND.\n"
         "\n"
         "  -l, --label KEY=VALUE      a label of the workload; at least one is required\n"
         "  -p, --property NAME=VALUE  a property of the scope, as for systemd-run\n"
         "      --unit NAME            the scope's name\n"
         "      --slice NAME           the scope's slice, below trireme.slice\n"
         "      --uid USER             run as this user, with its groups\n"
         "      --gid GROUP            run with this group\n"
         "      --runtime-dir DIR      runtime directory of triremed (default:\n"
         "                             $TRIREME_RUNTIME_DIR, else /run/trireme)\n"
         "      --help, --version\n"
         "\n"
         "Exit code: that of COMMAND; 125 launch refused, triremed not reachable, or\n"
         "invalid usage; 126 COMMAND cannot be executed; 127 COMMAND not found. COMMAND\n"
         "never runs unprotected.\n";
}

}  // namespace trireme::cli
