// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/json.hpp"

namespace trireme {
namespace {

using nlohmann::json;

/// Counts nesting levels while the parser reads, and stops it at the first one beyond the limit.
///
/// Not json::parse() with a callback: at each '}' or ']' nlohmann 3.11 then searches the enclosing
/// container from its start, which takes quadratic time for "[[],[],[],...]".
class DepthGuard final : public json::json_sax_t {
 public:
  explicit DepthGuard(std::size_t limit) : limit_(limit) {}
  [[nodiscard]] bool is_too_deep() const { return is_too_deep_; }

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
  bool string(string_t& /*value*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return true; }
  bool key(string_t& /*value*/) override { return true; }
  bool start_object(std::size_t /*size*/) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t /*size*/) override { return enter(); }
  bool end_array() override { return leave(); }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const json::exception& /*error*/) override {
    return false;
  }

 private:
  bool enter() {
    is_too_deep_ = depth_ == limit_;
    ++depth_;
    return !is_too_deep_;
  }
  bool leave() {
    --depth_;
    return true;
  }

  std::size_t limit_;
  std::size_t depth_ = 0;
  bool is_too_deep_ = false;
};

}  // namespace

Result<json> parse_json(std::string_view text, std::size_t depth) {
  DepthGuard guard(depth);
  if (json::sax_parse(text, &guard)) {
    return json::parse(text);
  }
  return guard.is_too_deep()
             ? fail("JSON is nested more than " + std::to_string(depth) + " levels deep")
             : fail("invalid JSON");
}

}  // namespace trireme
