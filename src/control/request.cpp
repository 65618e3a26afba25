// SPDX-License-Identifier: Apache-2.0
#include "request.hpp"

#include "trireme/base/json.hpp"

namespace trireme::control {
namespace {

constexpr std::size_t kDepth = 16;

}  // namespace

Result<Request> parse_request(std::string_view line) {
  constexpr const char* kHint = R"(send one line like {"method": "status", "params": {}})";
  auto message = parse_json(line, kDepth);
  if (!message) {
    return fail("invalid request: " + message.error().message, kHint);
  }
  const auto method = message->is_object() ? message->find("method") : message->end();
  if (!message->is_object() || method == message->end() || !method->is_string()) {
    return fail("invalid request: not an object with a method", kHint);
  }
  Request request{.method = std::move(method->get_ref<std::string&>()),
                  .params = nlohmann::json::object()};
  if (const auto params = message->find("params"); params != message->end()) {
    if (!params->is_object()) {
      return fail("invalid request: params is not an object", kHint);
    }
    request.params = std::move(*params);
  }
  return request;
}

}  // namespace trireme::control
