// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/schema.hpp"

#include "shape.hpp"

namespace trireme::config {
namespace {

using nlohmann::ordered_json;
using Type = Key::Type;

ordered_json section_schema(const Section& section);

/// JSON Schema counts characters: it rejects nothing that the reader, which counts bytes, accepts.
ordered_json text_schema(bool non_empty, std::size_t longest = 0) {
  ordered_json schema = {{"type", "string"}};
  if (non_empty) {
    schema["minLength"] = 1;
  }
  if (longest != 0) {
    schema["maxLength"] = longest;
  }
  return schema;
}

ordered_json list_schema(bool non_empty) {
  ordered_json schema = {{"type", "array"}, {"items", {{"type", "string"}}}};
  if (non_empty) {
    schema["minItems"] = 1;
  }
  return schema;
}

ordered_json table_schema(bool non_empty) {
  ordered_json schema = {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}};
  if (non_empty) {
    schema["minProperties"] = 1;
  }
  return schema;
}

ordered_json value_schema(const Key& key) {
  switch (key.type) {
    case Type::text:
      return text_schema(key.non_empty, key.longest);
    case Type::word:
      return {{"enum", key.words}};
    case Type::boolean:
      return {{"type", "boolean"}};
    case Type::time:
      return {{"type", "string"}, {"format", "date-time"}};
    case Type::list:
      return list_schema(key.non_empty);
    case Type::text_or_list:
      return {
          {"anyOf", ordered_json::array({text_schema(key.non_empty), list_schema(key.non_empty)})}};
    case Type::labels:
    case Type::texts:
      return table_schema(key.non_empty);
    case Type::labels_or_text:
      return {{"anyOf", ordered_json::array({text_schema(true), table_schema(false)})}};
    case Type::section:
      return section_schema(*key.section);
    case Type::entries:
      return {{"type", "array"}, {"items", section_schema(*key.section)}};
  }
  return {};
}

ordered_json section_schema(const Section& section) {
  ordered_json schema = {
      {"type", "object"}, {"additionalProperties", false}, {"properties", ordered_json::object()}};
  ordered_json required = ordered_json::array();
  for (const Key& key : section.keys) {
    ordered_json value = value_schema(key);
    value["description"] = key.description;
    schema["properties"][std::string(key.name)] = std::move(value);
    if (key.required) {
      required.push_back(key.name);
    }
  }
  if (!required.empty()) {
    schema["required"] = std::move(required);
  }
  for (const std::string_view key : section.one_of) {
    schema[section.only_one ? "oneOf" : "anyOf"].push_back(
        {{"required", ordered_json::array({key})}});
  }
  for (const auto& [one, other] : section.exclusive) {
    schema["allOf"].push_back({{"not", {{"required", ordered_json::array({one, other})}}}});
  }
  return schema;
}

ordered_json file_schema(const Shape& shape) {
  ordered_json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                         {"title", shape.file},
                         {"description", shape.description}};
  schema.update(section_schema(shape.top));
  return schema;
}

}  // namespace

nlohmann::ordered_json policy_schema() {
  return file_schema(policy_shape());
}

nlohmann::ordered_json identity_schema() {
  return file_schema(identity_shape());
}

}  // namespace trireme::config
