// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "command.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/systemd/socket_holders.hpp"

namespace trireme::cli {
namespace {

constexpr std::chrono::seconds kPatience(60);
constexpr std::chrono::seconds kSilence(1);

/// Prints `line` on stderr, the unit's journal, unless the object is destroyed within kSilence.
class WaitNotice {
 public:
  explicit WaitNotice(std::string line)
      : thread_([line = std::move(line)](const std::stop_token& stop) {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any ended;
          ended.wait_for(lock, stop, kSilence, [] { return false; });
          if (!stop.stop_requested()) {
            std::fprintf(stderr, "%s\n", line.c_str());
          }
        }) {}

 private:
  std::jthread thread_;
};

/// Returns when the unit is enforced. Error: it must not start.
Result<nlohmann::json> pass(const Globals& globals, const std::string& unit) {
  const WaitNotice notice(fmt::format("trirectl: {} waits for trireme to enforce it (at most {} s)",
                                      unit, kPatience.count()));
  const auto call = [&globals](const nlohmann::json& params) {
    return ask(globals, control::method::unit_gate, params, kPatience);
  };
  auto answer = call({{"unit", unit}});
  if (answer && answer->contains("kept")) {
    answer =
        call({{"unit", unit},
              {"alone",
               systemd::held_by_init_alone(answer->at("kept").get<std::set<std::uint32_t>>())}});
  }
  if (!answer) {
    answer.error().message = unit + " is not started: " + answer.error().message;
  }
  return answer;
}

}  // namespace

void add_unit_gate(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "unit-gate",
                                  "Wait until a unit is enforced (for drop-ins of trireme)");
  command->group("");  // hidden: the daemon answers only processes of the unit
  const auto unit = std::make_shared<std::string>();
  command->add_option("UNIT", *unit, "full name of the unit")->required();
  command->callback([&globals, &action, unit] {
    action = [&globals, unit] {
      const auto answer = pass(globals, *unit);
      if (!answer) {
        return report(globals, answer.error());
      }
      if (globals.json) {
        print_json(*answer);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
