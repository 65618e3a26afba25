// SPDX-License-Identifier: Apache-2.0
// Parses the params of the method launch, which any local user may send.
#include <nlohmann/json.hpp>

#include "trireme/systemd/launcher.hpp"

namespace trireme::systemd {

using nlohmann::json;

Result<LaunchRequest> parse_launch(const json& params) {
  LaunchRequest request;
  for (const json& text : params.at("labels")) {
    const auto label = policy::parse_label(text.get<std::string>());
    if (!label) {
      return tl::unexpected(label.error());
    }
    if (const std::string* before = request.labels.find(label->key);
        before != nullptr && *before != label->value) {
      return fail("label '" + label->key + "' is given twice, as '" + *before + "' and '" +
                  label->value + "'");
    }
    if (Status added = request.labels.set(label->key, label->value); !added) {
      return tl::unexpected(added.error());
    }
  }
  request.properties = params.value("properties", std::vector<std::string>{});
  request.unit = params.value("unit", "");
  request.changes_user = params.value("changes_user", false);
  return request;
}

}  // namespace trireme::systemd
