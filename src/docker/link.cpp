// SPDX-License-Identifier: Apache-2.0
#include "link.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace trireme::docker {
namespace {

constexpr std::chrono::microseconds kFirstRetry(250'000);
constexpr std::chrono::microseconds kLastRetry(5'000'000);
/// The interval of checks for a socket that does not exist.
constexpr std::chrono::seconds kNoSocket(1);
constexpr std::size_t kAnswerBytes = 64U << 20U;
constexpr std::size_t kLineBytes = 4U << 20U;

/// The URL of /events, restricted to containers and networks.
std::string events_path() {
  return "/events?filters=" + url_encode(R"({"type":["container","network"]})");
}

}  // namespace

Link::Link(sd_event* loop, Handlers handlers) : loop_(loop), handlers_(std::move(handlers)) {
  event::require(loop_, retry_.open(
                            loop_, [this] { open(); }, event::kNormal, event::kExact));
}

void Link::connect(const std::string& socket) {
  if (socket == socket_ && (client_ || socket.empty())) {
    return;
  }
  socket_ = socket;
  client_.reset();
  reported_kind_.reset();
  listed_ = false;
  backoff_ = {};
  retry_.disarm();
  state_ = "not used";
  if (!socket_.empty()) {
    open();
  }
}

std::optional<EngineKind> Link::kind() const {
  return reported_kind_ ? reported_kind_ : engine_of_socket(socket_);
}

std::string Link::name() const {
  const auto known = kind();
  return known ? text(*known) : "the engine at " + socket_;
}

void Link::open() {
  listed_ = false;
  is_lost_ = false;
  early_.clear();
  client_.reset();
  struct stat status {};
  if (::stat(socket_.c_str(), &status) != 0) {
    state_ = "not running: " + socket_ + " does not exist";
    retry_.arm(kNoSocket);
    return;
  }
  auto client = Client::create(loop_, socket_);
  if (!client) {
    lost(client.error().text());
    return;
  }
  client_ = std::move(*client);
  state_ = "connecting to " + socket_;
  client_->stream(events_path(), kLineBytes,
                  {.opened =
                       [this](const Client::Answer& answer) {
                         reported_kind_ = engine_of_server(answer.server);
                         list();
                       },
                   .line = [this](const std::string& line) { on_line(line); },
                   .ended = [this](const Error& error) { lost(error.message); }});
}

/// Called when the event stream is open. Events report all changes from then on, so a list
/// requested now cannot miss one.
void Link::list() {
  client_->get("/info", kAnswerBytes, [this](Result<Client::Answer> answer) {
    const auto info =
        answer && answer->status == 200 ? parse_info(answer->body) : fail("no answer to /info");
    if (is_lost_) {
      return;
    }
    state_ = info ? name() + " " + info->version + ", cgroup driver " + info->cgroup_driver
                  : "connected to " + socket_;
  });
  client_->get("/containers/json?all=true", kAnswerBytes, [this](Result<Client::Answer> answer) {
    if (is_lost_) {
      return;
    }
    if (!answer || answer->status != 200) {
      lost(answer ? "/containers/json: HTTP status " + std::to_string(answer->status)
                  : answer.error().message);
      return;
    }
    std::size_t malformed = 0;
    auto containers = parse_listing(answer->body, malformed);
    if (!containers) {
      lost(containers.error().message);
      return;
    }
    if (malformed != 0) {
      spdlog::warn("{}: cannot parse {} of the listed containers; {} quarantined", name(),
                   malformed, malformed == 1 ? "it stays" : "they stay");
    }
    spdlog::info("connected to {}: {} {}", name(), containers->size(),
                 containers->size() == 1 ? "container" : "containers");
    backoff_ = {};
    listed_ = true;
    handlers_.listing(std::move(*containers));
    for (const Event& event : std::exchange(early_, {})) {
      handlers_.event(event);
    }
  });
}

/// Called from the client's handlers, so the client must not be destroyed here; the retry replaces
/// it. Pending inspections continue until then.
void Link::lost(const std::string& reason) {
  if (std::exchange(is_lost_, true)) {
    return;
  }
  if (state_ != "not connected: " + reason) {
    spdlog::warn("{}: {}; new containers stay quarantined until it answers", name(), reason);
  }
  state_ = "not connected: " + reason;
  listed_ = false;
  backoff_ = std::clamp(backoff_ * 2, kFirstRetry, kLastRetry);
  retry_.arm(backoff_);
}

void Link::on_line(const std::string& line) {
  if (is_lost_) {
    return;  // the list after the next connect includes this change
  }
  const auto event = parse_event(line);
  if (!event) {
    // The event cannot be parsed: reconnect to get a new list.
    lost(event.error().message);
    return;
  }
  if (!event->has_value()) {
    return;
  }
  if (listed_) {
    handlers_.event(**event);
  } else {
    early_.push_back(**event);
  }
}

bool Link::inspect(const std::string& id, Done<std::optional<ContainerFacts>> done) {
  if (!client_) {
    return false;
  }
  client_->get("/containers/" + id + "/json", kAnswerBytes,
               [id, done = std::move(done)](Result<Client::Answer> answer) {
                 if (!answer) {
                   done(tl::unexpected(answer.error()));
                 } else if (answer->status == 404) {
                   done(std::optional<ContainerFacts>());
                 } else if (answer->status != 200) {
                   done(fail("HTTP status " + std::to_string(answer->status)));
                 } else if (auto facts = parse_inspection(answer->body); !facts) {
                   done(tl::unexpected(facts.error()));
                 } else if (facts->id != id) {
                   done(fail("the answer is about another container"));
                 } else {
                   done(std::optional(std::move(*facts)));
                 }
               });
  return true;
}

bool Link::networks(Done<std::vector<NetworkFacts>> done) {
  if (!client_) {
    return false;
  }
  client_->get("/networks", kAnswerBytes, [done = std::move(done)](Result<Client::Answer> answer) {
    if (!answer) {
      done(tl::unexpected(answer.error()));
    } else if (answer->status != 200) {
      done(fail("/networks: HTTP status " + std::to_string(answer->status)));
    } else {
      done(parse_networks(answer->body));
    }
  });
  return true;
}

bool Link::image_labels(const std::string& image_id, Done<std::optional<RawLabels>> done) {
  if (!client_) {
    return false;
  }
  client_->get(
      "/images/" + url_encode(image_id) + "/json", kAnswerBytes,
      [done = std::move(done)](Result<Client::Answer> answer) {
        if (!answer) {
          done(tl::unexpected(answer.error()));
        } else if (answer->status == 404) {
          done(std::optional<RawLabels>());
        } else if (answer->status != 200) {
          done(fail("cannot inspect its image: HTTP status " + std::to_string(answer->status)));
        } else if (auto labels = parse_image_labels(answer->body); !labels) {
          done(tl::unexpected(labels.error()));
        } else {
          done(std::optional(std::move(*labels)));
        }
      });
  return true;
}

}  // namespace trireme::docker
