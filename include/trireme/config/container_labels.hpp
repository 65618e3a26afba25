// SPDX-License-Identifier: Apache-2.0
// Derives a container's identity from its labels.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "trireme/config/host.hpp"

namespace trireme::config {

/// As an engine reports them.
using RawLabels = std::map<std::string, std::string>;

/// `labels` without those that `image` has with the same value (unless image_labels lists them) and
/// without those of ignore_labels. Error: one of the remaining labels is not a valid trireme label.
/// Skipping it silently would give the container another identity.
[[nodiscard]] Result<policy::LabelSet> identity_labels(const RawLabels& labels,
                                                       const RawLabels& image,
                                                       const config::DockerSettings& settings);

/// Labels, as "key=value", that are not part of the identity only because the image has them with
/// the same value. Docker does not report whether they were also given to the container (`docker
/// run -l`).
[[nodiscard]] std::vector<std::string> labels_lost_to_image(const RawLabels& labels,
                                                            const RawLabels& image,
                                                            const config::DockerSettings& settings);

/// True if a container with this identity becomes a workload. `has_own_network`: its network
/// namespace is not the host's.
[[nodiscard]] bool is_under_policy(const DockerSettings& settings, const policy::LabelSet& identity,
                                   bool has_own_network);

}  // namespace trireme::config
