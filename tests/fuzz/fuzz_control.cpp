// SPDX-License-Identifier: Apache-2.0
// Any bytes as a line on the control socket, which any user may write to: no crash, and a decoded
// request has the properties that the daemon relies on.
#include "../../src/control/request.hpp"

#include <nlohmann/json.hpp>

#include "fuzz_support.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/policy/labels.hpp"
#include "trireme/systemd/launcher.hpp"

namespace {

using namespace trireme;
using nlohmann::json;

std::size_t depth(const json& value) {
  std::size_t deepest = 0;
  for (const json& child : value) {
    deepest = std::max(deepest, child.is_structured() ? depth(child) : 0);
  }
  return value.is_structured() ? deepest + 1 : 0;
}

void check_launch(const json& params) {
  const auto launch = systemd::parse_launch(params);
  if (!launch) {
    fuzz::require(!launch.error().message.empty(), "a refusal says why");
    return;
  }
  const auto decoded = policy::LabelSet::decode(launch->labels.encode());
  fuzz::require(decoded.has_value() && *decoded == launch->labels, "labels survive their encoding");
  fuzz::require(policy::is_printable(launch->labels.text()), "labels are printable");
  fuzz::require(launch->pid == 0 && launch->groups.empty(),
                "a request cannot set the identity of its caller");
  for (const std::string& text : launch->properties) {
    if (const auto property = systemd::Property::parse(text)) {
      fuzz::require(property->name + "=" + property->value == text, "a property is NAME=VALUE");
    }
  }
  if (const auto name = systemd::scope_unit_name(launch->unit)) {
    fuzz::require(name->ends_with(".scope") && name->find('/') == std::string::npos,
                  "a scope name is one path component");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string line(reinterpret_cast<const char*>(data), size);
  const auto request = control::parse_request(line);
  if (!request) {
    fuzz::require(!request.error().message.empty(), "a refusal says why");
    return 0;
  }
  fuzz::require(request->params.is_object(), "params is an object");
  fuzz::require(depth(request->params) < 16, "the depth of params is limited");
  const json copy = request->params;  // handlers copy params, and answers are serialized
  fuzz::require(json::parse(copy.dump()) == request->params, "params survive serialization");
  // What the server answers with the message of the exception.
  try {
    check_launch(request->params);
  } catch (const json::exception&) {
  }
  try {
    (void)control::FlowFilter::parse(request->params, policy::Policy());
  } catch (const json::exception&) {
  }
  return 0;
}
