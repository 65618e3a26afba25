// SPDX-License-Identifier: Apache-2.0
// What Source knows about an engine, a container and an image.
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

/// The warning about a container whose first process has moved to another network namespace.
inline constexpr const char* kMoved =
    "its first process has left the network namespace that it was started in; policy is still "
    "enforced there";

/// The labels of an image: not known yet, not available any more (is_gone), or known.
struct Source::Image {
  bool is_asked = false;
  bool is_gone = false;
  std::optional<RawLabels> labels;
};

struct Source::Engine {
  Engine(sd_event* loop, Link::Handlers handlers) : link(loop, std::move(handlers)) {}

  Link link;
  std::optional<EngineKind> kind;       // the kind used when cgroups were last assigned to engines
  std::map<std::string, Image> images;  // by id; only images of containers that have labels
  std::optional<std::vector<NetworkFacts>> networks;  // nullopt: not reported yet
  bool asks_networks = false;                         // a query is pending
  bool ask_networks_again = false;                    // networks changed while it was pending
};

struct Source::Container {
  std::string id;
  std::string cgroup;                // path of its cgroup; empty if there is none
  std::chrono::microseconds born{};  // event::now() when the cgroup was first seen
  /// The network namespaces of this start: first the one that the runtime declares, if it does,
  /// then those that its first processes were seen in.
  std::vector<workload::Place> places = {};
  bool is_declared = false;             // the first place is the one that the runtime declares
  bool is_decided = false;              // its first process was examined; later moves are ignored
  bool has_moved = false;               // its first process has moved since, and that was logged
  std::optional<ContainerFacts> facts;  // the latest report of its engine
  Engine* engine = nullptr;             // the engine that reported it; null: none yet
  struct Question {
    bool is_asked = false;    // an inspection is pending
    bool ask_again = false;   // the container changed while it was pending
    bool is_unknown = false;  // the engine does not know this container
  };
  std::map<const Engine*, Question> questions = {};
  bool is_left_alone = false;  // no engine of its kind is configured
  std::string lost_labels;     // the last logged warning about labels that the image has too
  std::string problem;         // the last logged error
};

}  // namespace trireme::docker
