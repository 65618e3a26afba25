#include "trireme/docker/running.hpp"

#include <systemd/sd-event.h>

#include <map>
#include <memory>

#include "cgroup.hpp"
#include "client.hpp"
#include "labels.hpp"
#include "trireme/kernel/cgroup.hpp"

namespace trireme::docker {
namespace {

constexpr std::size_t kAnswerLimit = 64U << 20U;

/// A loop of its own: the daemon's does not run yet.
class Conversation {
 public:
  static Result<std::unique_ptr<Conversation>> open(const std::string& socket,
                                                    std::chrono::milliseconds patience) {
    std::unique_ptr<Conversation> made(new Conversation);
    sd_event* loop = nullptr;
    if (const int rc = sd_event_new(&loop); rc < 0) {
      return fail_errno("cannot set up an event loop", -rc);
    }
    made->loop_.reset(loop);
    made->deadline_ = std::chrono::steady_clock::now() + patience;
    auto client = Client::create(loop, socket);
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
        client_.reset();  // no handler comes after this
        return fail("Docker does not answer in time");
      }
      if (const int rc = sd_event_run(loop_.get(), static_cast<std::uint64_t>(left.count()));
          rc < 0) {
        return fail_errno("the event loop failed", -rc);
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
  struct LoopDeleter {
    void operator()(sd_event* loop) const { sd_event_unref(loop); }
  };
  Conversation() = default;
  std::unique_ptr<sd_event, LoopDeleter> loop_;
  std::unique_ptr<Client> client_;  // goes before its loop
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace

Result<std::vector<RunningContainer>> running_containers(const policy::DockerSettings& settings,
                                                         std::chrono::milliseconds patience) {
  auto docker = Conversation::open(settings.socket, patience);
  if (!docker) {
    return tl::unexpected(docker.error());
  }
  const auto list = (*docker)->get("/containers/json");
  std::size_t malformed = 0;
  const auto listed = list ? parse_listing(*list, malformed) : tl::unexpected(list.error());
  if (!listed) {
    return tl::unexpected(listed.error());
  }
  std::map<std::string, RawLabels> images;
  std::vector<RunningContainer> running;
  for (const ContainerFacts& container : *listed) {
    const auto inspection = (*docker)->get("/containers/" + container.id + "/json");
    if (!inspection) {
      return tl::unexpected(inspection.error());
    }
    auto facts = parse_inspection(*inspection);
    if (!facts || !facts->is_running) {
      continue;  // ended meanwhile
    }
    const auto [image, is_new] = images.try_emplace(facts->image_id);
    if (is_new) {
      const auto answer = (*docker)->get("/images/" + url_encode(facts->image_id) + "/json");
      const auto labels = answer ? parse_image_labels(*answer) : tl::unexpected(answer.error());
      image->second = labels ? *labels : RawLabels();
    }
    auto labels = identity_labels(facts->labels, image->second, settings);
    const auto path = kernel::CgroupTree::of(facts->pid);
    running.push_back({.name = facts->name.empty() ? facts->id.substr(0, 12) : facts->name,
                       .pid = facts->pid,
                       .cgroup = path ? own_part(*path, facts->id) : "",
                       .labels = std::move(labels)});
  }
  return running;
}

bool is_container_cgroup(std::string_view name) {
  return !id_of_scope(name).empty() || !id_of_directory(name).empty();
}

}  // namespace trireme::docker
