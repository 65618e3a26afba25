// What Source knows of a container and of an image.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "json.hpp"
#include "trireme/docker/source.hpp"

namespace trireme::docker {

struct Source::Container {
  std::string id;
  std::string cgroup;      // its directory's path while there is one
  std::uint64_t born = 0;  // when that was first seen, in µs of CLOCK_MONOTONIC
  std::shared_ptr<const kernel::Netns> network =
      nullptr;  // that of this start where it is another than ours; null: ours, or not known
  std::optional<ContainerFacts> facts;  // the newest that Docker told
  bool is_asked = false;                // an inspection is under way
  bool ask_again = false;               // something happened meanwhile
  std::string problem;                  // the last one that was logged
};

/// The labels of an image: not known yet, not to be had any more, or known.
struct Source::Image {
  bool is_asked = false;
  bool is_gone = false;
  std::optional<RawLabels> labels;
};

}  // namespace trireme::docker
