// SPDX-License-Identifier: Apache-2.0
// What Source knows of an engine, of a container and of an image.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "json.hpp"
#include "link.hpp"
#include "trireme/docker/source.hpp"

namespace trireme::docker {

/// A warning about a container whose first process is elsewhere than it was.
inline constexpr const char* kMoved =
    "its first process has left the network that it was started in, which is enforced all the same";

/// The labels of an image: not known yet, not to be had any more, or known.
struct Source::Image {
  bool is_asked = false;
  bool is_gone = false;
  std::optional<RawLabels> labels;
};

struct Source::Engine {
  Engine(sd_event* loop, Link::Handlers handlers) : link(loop, std::move(handlers)) {}

  Link link;
  std::optional<EngineKind> kind;                     // as cgroups were last divided
  std::map<std::string, Image> images;                // by id, of containers that have labels
  std::optional<std::vector<NetworkFacts>> networks;  // nullopt: not told yet
  bool asks_networks = false;                         // an answer is under way
  bool ask_networks_again = false;                    // something happened meanwhile
};

struct Source::Container {
  std::string id;
  std::string cgroup;                // its directory's path while there is one
  std::chrono::microseconds born{};  // event::now() when that was first seen
  /// The network namespaces of this start: that which the runtime declares first, where it does,
  /// then those that its first processes were seen in.
  std::vector<workload::Place> places = {};
  bool is_declared = false;  // the first of them is
  bool is_decided = false;   // its first process was looked at: nothing that it does later counts
  bool has_moved = false;    // what it did has been logged
  std::optional<ContainerFacts> facts;  // the newest that its engine told
  Engine* engine = nullptr;             // that one; null: none has told yet
  struct Question {
    bool is_asked = false;    // an inspection is under way
    bool ask_again = false;   // something happened meanwhile
    bool is_unknown = false;  // the engine knows no such container
  };
  std::map<const Engine*, Question> questions = {};
  bool is_left_alone = false;  // no engine of its kind is configured
  std::string lost_labels;     // the last warning about them that was logged
  std::string problem;         // the last one that was logged
};

}  // namespace trireme::docker
