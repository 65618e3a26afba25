// SPDX-License-Identifier: Apache-2.0
// The connection to an engine. It subscribes to events first and then requests the list of
// containers, so that no change is missed. It starts again whenever the event stream ends.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cgroup.hpp"
#include "client.hpp"
#include "json.hpp"

namespace trireme::docker {

class Link {
 public:
  struct Handlers {
    std::function<void(const Event&)> event;
    /// All containers, after each connect. Events that happened meanwhile follow it.
    std::function<void(std::vector<ContainerFacts>)> listing;
  };

  Link(sd_event* loop, Handlers handlers);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Connects, and reconnects from then on. A different socket than before closes the old
  /// connection; an empty one closes it without a new one.
  void connect(const std::string& socket);
  [[nodiscard]] bool is_connected() const { return listed_; }
  [[nodiscard]] const std::string& socket() const { return socket_; }
  /// The kind that the engine reported when it was last connected, otherwise the kind that the
  /// socket's path indicates; nullopt if neither is known.
  [[nodiscard]] std::optional<EngineKind> kind() const;
  /// "Docker" or "Podman"; "the engine at /socket" if the kind is not known.
  [[nodiscard]] std::string name() const;
  /// "Docker 20.10.24, cgroup driver systemd", or why it is not connected.
  [[nodiscard]] const std::string& state() const { return state_; }

  template <typename Value>
  using Done = std::function<void(Result<Value>)>;
  /// These query the engine; `done` gets nullopt if the object does not exist, and is never called
  /// before they return. They return false without a connection; the next connect brings a listing.
  bool inspect(const std::string& id, Done<std::optional<ContainerFacts>> done);
  bool networks(Done<std::vector<NetworkFacts>> done);
  bool image_labels(const std::string& image_id, Done<std::optional<RawLabels>> done);

 private:
  void open();
  void list();
  void lost(const std::string& reason);
  void on_line(const std::string& line);

  sd_event* loop_;
  Handlers handlers_;
  std::string socket_;
  std::string state_ = "not configured";
  std::unique_ptr<Client> client_;
  std::optional<EngineKind> reported_kind_;
  event::Timer retry_;
  std::chrono::microseconds backoff_{};
  bool listed_ = false;
  bool is_lost_ = false;      // the connection has failed, and a reconnect is scheduled
  std::vector<Event> early_;  // events between the start of the stream and the list
};

}  // namespace trireme::docker
