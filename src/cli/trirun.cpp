// SPDX-License-Identifier: Apache-2.0
// trirun: asks the daemon to make this process a workload, waits until the policy is enforced, and
// then executes the command in the same process.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "run_as.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/control/client.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "trirun_options.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

constexpr int kRefused = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr std::chrono::seconds kPatience(60);  // systemd queues jobs if hundreds start at once

int refuse(const Error& error) {
  std::fputs(error_lines("trirun", error).c_str(), stderr);
  return kRefused;
}

/// Returns once the kernel enforces the policy for the labels on this process.
Status enrol(const TrirunOptions& options) {
  auto client = control::Client::connect(control::socket_path(options.runtime_dir));
  if (!client) {
    return tl::unexpected(client.error());
  }
  auto labels = nlohmann::json::array();
  for (const auto& [key, value] : options.labels.items()) {
    labels.push_back(key + "=" + value);
  }
  const nlohmann::json params = {
      {"labels", std::move(labels)},
      {"properties", options.properties},
      {"unit", options.unit},
      {"changes_user", options.user.has_value() || options.group.has_value()}};
  const auto answer = client->call(control::method::launch, params, kPatience);
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  if (!answer->is_object() || !answer->contains("cgroup")) {
    return fail("unexpected answer from triremed: no cgroup in it",
                "trirun and triremed may have different versions");
  }
  return {};
}

int run(int argc, char** argv) {
  auto options = parse_trirun(argc, argv);
  if (!options) {
    return refuse(options.error());
  }
  if (!options->text.empty()) {
    std::fputs(options->text.c_str(), stdout);
    return 0;
  }
  const auto run_as = resolve_run_as(options->user, options->group);
  if (!run_as) {
    return refuse(run_as.error());
  }
  if (const auto status = enrol(*options); !status) {
    return refuse(status.error());
  }
  if (const auto status = become(*run_as); !status) {
    return refuse(status.error());
  }
  ::execvp(options->command.front(), options->command.data());
  const int error = errno;
  std::fprintf(stderr, "trirun: cannot execute %s: %s\n",
               printable(options->command.front()).c_str(),
               std::strerror(error));  // NOLINT(concurrency-mt-unsafe)
  return error == ENOENT ? kNotFound : kNotExecutable;
}

}  // namespace
}  // namespace trireme::cli

int main(int argc, char** argv) {
  try {
    return trireme::cli::run(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "trirun: %s\n", trireme::printable(exception.what()).c_str());
    return trireme::cli::kRefused;
  }
}
