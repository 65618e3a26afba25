// SPDX-License-Identifier: Apache-2.0
#include "kept_holds.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "trireme/base/disk.hpp"
#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;
using workload::Hold;

/// nullopt: a kind that this version does not know. Throws json::exception on missing keys and
/// wrong types.
std::optional<Hold> from_json(const json& item) {
  const auto kind = item.at("kind").get<std::string>();
  const std::array kinds = {workload::Kind::process, workload::Kind::container,
                            workload::Kind::unit};
  const auto* known =
      std::ranges::find(kinds, kind, [](workload::Kind each) { return text(each); });
  if (known == kinds.end()) {
    return std::nullopt;
  }
  return Hold{.name = item.at("name").get<std::string>(),
              .kind = *known,
              .cgroup_path = item.at("cgroup").get<std::string>(),
              .cgroup_id = item.at("cgroup_id").get<std::uint64_t>(),
              .container_id = item.at("container").get<std::string>(),
              .by = item.at("by").get<std::string>(),
              .why = item.at("reason").get<std::string>(),
              .since = item.at("since").get<std::string>()};
}

}  // namespace

std::string holds_file(const std::string& state_dir) {
  return state_dir + "/holds.json";
}

Status keep_holds(const std::string& state_dir, const std::vector<Hold>& holds) {
  json list = json::array();
  for (const Hold& hold : holds) {
    list.push_back({{"name", hold.name},
                    {"kind", workload::text(hold.kind)},
                    {"cgroup", hold.cgroup_path},
                    {"cgroup_id", hold.cgroup_id},
                    {"container", hold.container_id},
                    {"by", hold.by},
                    {"reason", hold.why},
                    {"since", hold.since}});
  }
  // Names come from Docker and systemd: replace invalid UTF-8 instead of throwing.
  return Disk().replace(holds_file(state_dir),
                        list.dump(-1, ' ', false, json::error_handler_t::replace), 0600);
}

Result<std::vector<Hold>> read_holds(const std::string& state_dir) {
  const std::string path = holds_file(state_dir);
  const auto content = read_file(path);
  if (!content) {
    return content.error().code == ENOENT ? Result<std::vector<Hold>>({})
                                          : tl::unexpected(content.error());
  }
  try {
    std::vector<Hold> holds;
    const json list = json::parse(*content);
    if (!list.is_array()) {
      return fail(path + " is unreadable: it is not a list");
    }
    for (const json& item : list) {
      auto hold = from_json(item);
      if (!hold) {
        return fail(path + " is unreadable: it has an order of an unknown kind");
      }
      holds.push_back(std::move(*hold));
    }
    return holds;
  } catch (const json::exception& error) {
    return fail(path + " is unreadable: " + error.what());
  }
}

}  // namespace trireme::daemon
