// SPDX-License-Identifier: Apache-2.0
#include "trireme/docker/running.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>

#include "cgroup.hpp"
#include "client.hpp"
#include "json.hpp"
#include "trireme/kernel/cgroup.hpp"

namespace trireme::docker {
namespace {

constexpr std::size_t kAnswerLimit = 64U << 20U;

/// Sends requests and waits for the answers, with its own event loop, because the daemon's does not
/// run yet.
class Conversation {
 public:
  static Result<std::unique_ptr<Conversation>> open(const std::string& socket,
                                                    std::chrono::milliseconds patience) {
    auto loop = event::Loop::create();
    if (!loop) {
      return tl::unexpected(loop.error());
    }
    std::unique_ptr<Conversation> made(new Conversation(std::move(*loop)));
    made->deadline_ = std::chrono::steady_clock::now() + patience;
    auto client = Client::create(made->loop_.get(), socket);
    if (!client) {
      return tl::unexpected(client.error());
    }
    made->client_ = std::move(*client);
    return made;
  }

  Result<std::string> get(const std::string& path) {
    std::optional<Result<Client::Answer>> answer;
    client_->get(path, kAnswerLimit,
                 [&answer](Result<Client::Answer> got) { answer.emplace(std::move(got)); });
    while (!answer) {
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
          deadline_ - std::chrono::steady_clock::now());
      if (left.count() <= 0) {
        client_.reset();  // its handler must not be called after `answer` is destroyed
        return fail("no answer within the time limit");
      }
      if (Status ran = loop_.run_once(left); !ran) {
        return tl::unexpected(ran.error());
      }
    }
    if (!*answer) {
      return tl::unexpected(answer->error());
    }
    if ((*answer)->status != 200) {
      return fail(path + ": HTTP status " + std::to_string((*answer)->status));
    }
    return std::move((*answer)->body);
  }

 private:
  explicit Conversation(event::Loop loop) : loop_(std::move(loop)) {}
  event::Loop loop_;
  std::unique_ptr<Client> client_;  // must be destroyed before its loop
  std::chrono::steady_clock::time_point deadline_;
};

/// The running containers of one engine.
Result<std::vector<RunningContainer>> containers_of(const std::string& socket,
                                                    std::chrono::milliseconds patience) {
  auto engine = Conversation::open(socket, patience);
  if (!engine) {
    return tl::unexpected(engine.error());
  }
  const auto list = (*engine)->get("/containers/json");
  std::size_t malformed = 0;
  const auto listed = list ? parse_listing(*list, malformed) : tl::unexpected(list.error());
  if (!listed) {
    return tl::unexpected(listed.error());
  }
  std::map<std::string, RawLabels> images;
  std::vector<RunningContainer> running;
  for (const ContainerFacts& container : *listed) {
    const auto inspection = (*engine)->get("/containers/" + container.id + "/json");
    if (!inspection) {
      return tl::unexpected(inspection.error());
    }
    auto facts = parse_inspection(*inspection);
    if (!facts || !facts->is_running) {
      continue;  // it has ended since the listing
    }
    const auto [image, is_new] = images.try_emplace(facts->image_id);
    if (is_new) {
      const auto answer = (*engine)->get("/images/" + url_encode(facts->image_id) + "/json");
      const auto labels = answer ? parse_image_labels(*answer) : tl::unexpected(answer.error());
      image->second = labels ? *labels : RawLabels();
    }
    const auto path = kernel::CgroupTree::of(facts->pid);
    running.push_back({.id = facts->id,
                       .name = facts->name.empty() ? facts->id.substr(0, 12) : facts->name,
                       .pid = facts->pid,
                       .cgroup = path ? own_part(*path, facts->id) : "",
                       .labels = facts->labels,
                       .image_labels = image->second});
  }
  return running;
}

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

UnreportedContainer unreported(const std::string& cgroup, std::string reason) {
  const std::string name = last_part(cgroup);
  const std::string id = id_of_scope(name).empty() ? id_of_directory(name) : id_of_scope(name);
  return {std::string(text(engine_of_cgroup(name))) + " container " + id.substr(0, 12),
          std::move(reason)};
}

}  // namespace

ConfiguredEngines configured_engines(const config::DockerSettings& settings) {
  ConfiguredEngines engines;
  if (settings.containers == config::DockerSettings::Containers::none) {
    return engines;
  }
  for (const std::string& socket : settings.sockets) {
    const auto kind = engine_of_socket(socket);
    engines.docker = engines.docker || kind.value_or(EngineKind::docker) == EngineKind::docker;
    engines.podman = engines.podman || kind.value_or(EngineKind::podman) == EngineKind::podman;
  }
  return engines;
}

RunningContainers running_containers(const config::DockerSettings& settings,
                                     const std::vector<std::string>& cgroups,
                                     std::chrono::milliseconds patience) {
  RunningContainers found;
  std::map<std::string, std::string> unknown;  // cgroup -> why
  for (const std::string& socket : settings.sockets) {
    const auto kind = engine_of_socket(socket);
    std::vector<std::string> its;
    std::ranges::copy_if(cgroups, std::back_inserter(its), [&](const std::string& cgroup) {
      return !kind || *kind == engine_of_cgroup(last_part(cgroup));
    });
    if (its.empty()) {
      continue;
    }
    auto listed = containers_of(socket, patience);
    const std::string reason = listed ? "its engine does not know this container"
                                      : "its engine did not report it: " + listed.error().text();
    std::ranges::for_each(its, [&](const std::string& cgroup) { unknown[cgroup] = reason; });
    if (listed) {
      std::ranges::move(*listed, std::back_inserter(found.reported));
    }
  }
  for (const std::string& cgroup : cgroups) {
    const auto why = unknown.find(cgroup);
    if (!is_taken_at_birth(cgroup)) {
      continue;
    }
    if (why == unknown.end()) {
      found.left_alone.push_back(
          unreported(cgroup, "[docker] socket in identity.toml does not list its engine's socket"));
    } else if (std::ranges::none_of(found.reported, [&](const RunningContainer& container) {
                 return container.cgroup == cgroup;
               })) {
      found.unreported.push_back(unreported(cgroup, why->second));
    }
  }
  return found;
}

std::string container_id(std::string_view name) {
  const std::string id = id_of_scope(name);
  return id.empty() ? id_of_directory(name) : id;
}

bool is_container_cgroup(std::string_view name) {
  return !container_id(name).empty();
}

}  // namespace trireme::docker
