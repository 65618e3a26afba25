// SPDX-License-Identifier: Apache-2.0
// The connection to an engine: events first, then the list, and again from the start whenever the
// stream ends.
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
    /// Everything there is, after each connect; events since then come after it.
    std::function<void(std::vector<ContainerFacts>)> listing;
  };

  Link(sd_event* loop, Handlers handlers);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Connects, and stays connected from then on. Another socket than before drops the old
  /// connection; empty: none.
  void connect(const std::string& socket);
  [[nodiscard]] bool is_connected() const { return listed_; }
  [[nodiscard]] const std::string& socket() const { return socket_; }
  /// What it said itself when it was last connected, else what its socket's
  /// name says; nullopt where nothing tells.
  [[nodiscard]] std::optional<EngineKind> kind() const;
  /// "Docker" or "Podman"; "the engine at /socket" where that is not known.
  [[nodiscard]] std::string name() const;
  /// "Docker 20.10.24, cgroup driver systemd", or why not connected.
  [[nodiscard]] const std::string& state() const { return state_; }

  template <typename Value>
  using Done = std::function<void(Result<Value>)>;
  /// nullopt: there is none (any more). Never called from within. False where
  /// it cannot be asked now: after the next connect a listing comes.
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
  std::optional<EngineKind> told_kind_;
  event::Timer retry_;
  std::chrono::microseconds backoff_{};
  bool listed_ = false;
  bool is_lost_ = false;      // this connection is given up; the next one is due
  std::vector<Event> early_;  // between the stream's start and the list
};

}  // namespace trireme::docker
