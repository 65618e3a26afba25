// SPDX-License-Identifier: Apache-2.0
// From a container's labels to its identity.
#pragma once

#include "json.hpp"
#include "trireme/policy/identity.hpp"

namespace trireme::docker {

/// `labels` without those that `image` brings with the same value, unless image_labels lists them,
/// and without ignore_labels. An error where one of the rest is no label of ours: leaving it out
/// silently would be another identity.
[[nodiscard]] Result<policy::LabelSet> identity_labels(const RawLabels& labels,
                                                       const RawLabels& image,
                                                       const policy::DockerSettings& settings);

/// Labels that would be identity, were they not the image's with the same value too: "key=value",
/// as `docker run -l` writes them. Nothing tells whether somebody has given them beside the image.
[[nodiscard]] std::vector<std::string> labels_lost_to_image(const RawLabels& labels,
                                                            const RawLabels& image,
                                                            const policy::DockerSettings& settings);

}  // namespace trireme::docker
