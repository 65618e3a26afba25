// SPDX-License-Identifier: Apache-2.0
// The readers and the JSON Schemas accept and reject the same: both come from the tables of
// shape.hpp.
#include "trireme/config/schema.hpp"

#include <gmock/gmock.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <regex>

#include "../../src/config/shape.hpp"
#include "config_support.hpp"
#include "trireme/config/host_diff.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

/// JSON with the same content. JSON has no times: one with an offset becomes a binary value, which
/// no string can be confused with; others become null.
json to_json(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json object = json::object();
    for (const auto& [key, value] : *table) {
      object[std::string(key.str())] = to_json(value);
    }
    return object;
  }
  if (const auto* array = node.as_array()) {
    json list = json::array();
    for (const toml::node& element : *array) {
      list.push_back(to_json(element));
    }
    return list;
  }
  if (const auto* text = node.as_string()) {
    return text->get();
  }
  if (const auto* flag = node.as_boolean()) {
    return flag->get();
  }
  if (const auto* number = node.as_integer()) {
    return number->get();
  }
  if (const auto* time = node.as_date_time(); time != nullptr && time->get().offset) {
    return json::binary({});
  }
  return nullptr;
}

bool accepts(const json& schema, const json& value);

bool accepts_object(const json& schema, const json& value) {
  for (const auto& key : schema.value("required", json::array())) {
    if (!value.contains(key.get<std::string>())) {
      return false;
    }
  }
  if (value.size() < schema.value("minProperties", std::size_t{0})) {
    return false;
  }
  const json properties = schema.value("properties", json::object());
  const json others = schema.value("additionalProperties", json(true));
  return std::all_of(value.items().begin(), value.items().end(), [&](const auto& item) {
    return properties.contains(item.key()) ? accepts(properties.at(item.key()), item.value())
                                           : accepts(others, item.value());
  });
}

/// The part of JSON Schema that the schemas use.
bool accepts(const json& schema, const json& value) {
  if (schema.is_boolean()) {
    return schema.get<bool>();
  }
  if (schema.contains("format")) {
    return value.is_binary();  // a time, the only format
  }
  const std::string type = schema.value("type", "");
  const auto holds = [&value](const json& other) { return accepts(other, value); };
  const json none = json::array();
  const json any_of = schema.value("anyOf", none);
  const json one_of = schema.value("oneOf", none);
  const json all_of = schema.value("allOf", none);
  const json words = schema.value("enum", none);
  if ((type == "object" && !value.is_object()) || (type == "array" && !value.is_array()) ||
      (type == "string" && !value.is_string()) || (type == "boolean" && !value.is_boolean()) ||
      (!any_of.empty() && std::none_of(any_of.begin(), any_of.end(), holds)) ||
      (!one_of.empty() && std::count_if(one_of.begin(), one_of.end(), holds) != 1) ||
      !std::all_of(all_of.begin(), all_of.end(), holds) ||
      (!words.empty() && std::find(words.begin(), words.end(), value) == words.end()) ||
      (schema.contains("not") && holds(schema.at("not")))) {
    return false;
  }
  if (value.is_string()) {
    const std::size_t length = value.get<std::string>().size();
    return length >= schema.value("minLength", std::size_t{0}) &&
           length <= schema.value("maxLength", std::size_t{std::string::npos});
  }
  if (value.is_array()) {
    const json items = schema.value("items", json(true));
    return value.size() >= schema.value("minItems", std::size_t{0}) &&
           std::all_of(value.begin(), value.end(),
                       [&items](const json& item) { return accepts(items, item); });
  }
  return !value.is_object() || accepts_object(schema, value);
}

class Schemas : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static const Shape& shape() {
    return GetParam() ? identity_shape() : policy_shape();
  }
  [[nodiscard]] static json schema() { return GetParam() ? identity_schema() : policy_schema(); }
  [[nodiscard]] static Configuration read(const std::string& content) {
    return GetParam() ? parse_identity(content) : parse_policy(content);
  }
  /// nullopt if the file is not TOML.
  [[nodiscard]] static std::optional<bool> schema_accepts(const std::string& content) {
    try {
      return accepts(schema(), to_json(toml::parse(content)));
    } catch (const toml::parse_error&) {
      return std::nullopt;
    }
  }
  /// Errors that the tables cause: keys, types, words, and keys that are missing.
  [[nodiscard]] static bool reader_finds_shape_errors(const Configuration& configuration) {
    static const std::regex kShapeError(
        "unknown key '.*|unknown value '.*|this .* has no '.*|"
        "'[^']*'( in \\S+)? must (be|contain) .*|label '.*' must be .*");
    return std::ranges::any_of(configuration.diagnostics, [](const Diagnostic& diagnostic) {
      return diagnostic.severity == Diagnostic::Severity::error &&
             std::regex_match(diagnostic.message, kShapeError);
    });
  }
  static void expect_agreement(const std::string& content) {
    const auto accepted = schema_accepts(content);
    if (!accepted) {
      return;
    }
    const Configuration configuration = read(content);
    EXPECT_TRUE(*accepted || !configuration.valid())
        << "the schema rejects what the reader accepts:\n"
        << content;
    EXPECT_FALSE(*accepted && reader_finds_shape_errors(configuration))
        << "the schema accepts what the reader rejects:\n"
        << content << testing::PrintToString(texts(configuration));
  }
  /// A file with this entry and whatever its section requires besides.
  static std::string file_with(const Key& section, const Key& key, const std::string& value) {
    std::string text = section.type == Key::Type::entries ? fmt::format("[[{}]]\n", section.name)
                                                          : fmt::format("[{}]\n", section.name);
    const auto& one_of = section.section->one_of;
    const bool is_one = std::ranges::find(one_of, key.name) != one_of.end();
    for (const Key& other : section.section->keys) {
      const bool fills = !is_one && !one_of.empty() && other.name == one_of.front();
      if (other.name != key.name && (other.required || fills)) {
        text += fmt::format("{} = {}\n", other.name, other.example);
      }
    }
    return text + fmt::format("{} = {}\n", key.name, value);
  }
  template <typename Function>
  static void for_each_key(Function function) {
    for (const Key& section : shape().top.keys) {
      for (const Key& key : section.section->keys) {
        function(section, key);
      }
    }
  }
};

TEST_P(Schemas, EveryKeyHasAnExampleThatIsAccepted) {
  for_each_key([](const Key& section, const Key& key) {
    const std::string file = file_with(section, key, std::string(key.example));
    EXPECT_EQ(schema_accepts(file), std::optional(true)) << file;
    EXPECT_FALSE(reader_finds_shape_errors(read(file)))
        << file << testing::PrintToString(texts(read(file)));
    EXPECT_FALSE(key.description.empty()) << key.name;
  });
}

TEST_P(Schemas, ValuesOfEveryTypeForEveryKey) {
  constexpr std::array kValues = {"1",
                                  "1.5",
                                  "true",
                                  "'x'",
                                  "[]",
                                  "['x']",
                                  "[1]",
                                  "['x', true]",
                                  "{}",
                                  "{ a = 'b' }",
                                  "{ a = 1 }",
                                  "2026-12-01T00:00:00Z",
                                  "2026-12-01T00:00:00",
                                  "2026-12-01",
                                  "''"};
  for_each_key([&](const Key& section, const Key& key) {
    for (const char* value : kValues) {
      expect_agreement(file_with(section, key, value));
    }
    EXPECT_EQ(schema_accepts(file_with(section, key, "1")), std::optional(false)) << key.name;
    EXPECT_TRUE(reader_finds_shape_errors(read(file_with(section, key, "1")))) << key.name;
  });
}

TEST_P(Schemas, EveryWordIsReadAndNoOther) {
  for_each_key([](const Key& section, const Key& key) {
    if (key.type != Key::Type::word) {
      return;
    }
    for (const std::string& word : key.words) {
      const std::string file = file_with(section, key, "'" + word + "'");
      EXPECT_EQ(schema_accepts(file), std::optional(true)) << file;
      EXPECT_FALSE(reader_finds_shape_errors(read(file)))
          << file << testing::PrintToString(texts(read(file)));
      expect_agreement(file_with(section, key, "'" + word + "x'"));
    }
    const std::string other = file_with(section, key, "'nonsense'");
    EXPECT_EQ(schema_accepts(other), std::optional(false)) << other;
    EXPECT_FALSE(read(other).valid()) << other;
  });
}

TEST_P(Schemas, UnknownAndMissingKeys) {
  for (const Key& section : shape().top.keys) {
    const bool repeated = section.type == Key::Type::entries;
    const std::string head =
        repeated ? fmt::format("[[{}]]\n", section.name) : fmt::format("[{}]\n", section.name);
    expect_agreement(head + "nonsense = 1\n");
    EXPECT_EQ(schema_accepts(head + "nonsense = 1\n"), std::optional(false)) << head;
    expect_agreement(head);
    // The other kind of section.
    const std::string wrong =
        repeated ? fmt::format("[{}]\n", section.name) : fmt::format("[[{}]]\n", section.name);
    EXPECT_EQ(schema_accepts(wrong), std::optional(false)) << wrong;
    EXPECT_TRUE(reader_finds_shape_errors(read(wrong))) << wrong;
    for (const Key& key : section.section->keys) {
      if (key.required) {
        std::string file = head;
        for (const Key& other : section.section->keys) {
          const bool is_spare = section.section->only_one && other.name != key.name &&
                                other.name == section.section->one_of.back();
          if (other.name != key.name && !is_spare) {
            file += fmt::format("{} = {}\n", other.name, other.example);
          }
        }
        EXPECT_EQ(schema_accepts(file), std::optional(false)) << file;
        EXPECT_FALSE(read(file).valid()) << file;
      }
    }
  }
  EXPECT_EQ(schema_accepts("nonsense = 1\n"), std::optional(false));
}

TEST_P(Schemas, CorporaAndShippedFiles) {
  const std::string name = GetParam() ? "identity" : "policy";
  std::vector<fs::path> files = {fs::path(TRIREME_SOURCE_DIR) / "etc" / (name + ".toml")};
  const fs::path corpus = fs::path(TRIREME_SOURCE_DIR) / "tests/fuzz/corpus" / name;
  for (const auto& entry : fs::directory_iterator(corpus)) {
    files.push_back(entry.path());
  }
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(TRIREME_SOURCE_DIR) / "examples/policies")) {
    if (entry.path().filename() == name + ".toml") {
      files.push_back(entry.path());
    }
  }
  EXPECT_GE(files.size(), 5U);
  for (const fs::path& file : files) {
    const std::string content = read_file(file.string()).value();
    constexpr std::string_view kSeparator = "#---\n";
    for (std::size_t at = 0; at < content.size();) {
      const std::size_t end = std::min(content.find(kSeparator, at), content.size());
      expect_agreement(content.substr(at, end - at));
      at = end + kSeparator.size();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Schemas, testing::Bool(), [](const auto& made) {
  return std::string(made.param ? "Identity" : "Policy");
});

// A key that is added to the table must not be missing in `policy diff`.
TEST(Shapes, EverySettingOfIdentityIsCompared) {
  for (const Key& section : identity_shape().top.keys) {
    if (section.type != Key::Type::section) {
      continue;
    }
    for (const Key& key : section.section->keys) {
      const std::string value =
          key.words.empty() ? std::string(key.example) : "'" + key.words.back() + "'";
      const std::string file = fmt::format("[{}]\n{} = {}\n", section.name, key.name, value);
      EXPECT_THAT(differing_settings(Host(), parse_identity(file).host), testing::SizeIs(1))
          << file;
    }
  }
}

TEST_P(Schemas, NamesHaveALimit) {
  const auto quoted = [](std::size_t length) { return "'" + std::string(length, 'a') + "'"; };
  std::size_t limited = 0;
  for_each_key([&](const Key& section, const Key& key) {
    if (key.longest == 0) {
      return;
    }
    ++limited;
    const auto is_too_long = [&](std::size_t length) {
      const auto found = texts(read(file_with(section, key, quoted(length))));
      return std::ranges::any_of(found, [](const std::string& text) {
        return text.find("is longer than") != std::string::npos;
      });
    };
    EXPECT_EQ(schema_accepts(file_with(section, key, quoted(key.longest))), std::optional(true));
    EXPECT_FALSE(is_too_long(key.longest)) << section.name << " " << key.name;
    EXPECT_EQ(schema_accepts(file_with(section, key, quoted(key.longest + 1))),
              std::optional(false));
    EXPECT_TRUE(is_too_long(key.longest + 1)) << section.name << " " << key.name;
  });
  EXPECT_EQ(limited, GetParam() ? 5U : 3U)
      << "allow, deny and network; host, unit, user, group and metrics";
}

/// What the schemas reject beyond keys, types and words.
TEST(SchemaRejects, WhatTheReaderRejects) {
  const auto rejects = [](const json& schema, const std::string& content) {
    EXPECT_FALSE(accepts(schema, to_json(toml::parse(content)))) << content;
  };
  for (const char* content :
       {"[[network]]\nname='a'\n", "[[network]]\nname='a'\ncidrs=[]\n",
        "[[network]]\ncidrs=['10.0.0.1']\n", "[[allow]]\nfrom='*'\n",
        "[[allow]]\nfrom=[]\nto='*'\n", "[[allow]]\nfrom=''\nto='*'\n",
        "[[deny]]\nfrom='*'\nto='*'\nports=[]\n", "[[deny]]\nfrom='*'\nto='*'\nname=''\n"}) {
    rejects(policy_schema(), content);
    EXPECT_FALSE(parse_policy(content).valid()) << content;
  }
  for (const char* content :
       {"[docker]\nlabels=['a']\nignore_labels=['b']\n", "[docker]\nlabels=[]\n",
        "[docker]\nsocket=[]\n", "[trust]\npsk_file='a'\ncertificate='b'\n",
        "[trust]\npsk_file='a'\nrevoked=['b']\n", "[[unit]]\nname='a.service'\nlabels={}\n",
        "[[launch]]\nlabels=['a=b']\n", "[[launch]]\nuser='a'\ngroup='b'\nlabels=['a=b']\n",
        "[[launch]]\nuser='a'\nlabels=[]\n"}) {
    rejects(identity_schema(), content);
    EXPECT_FALSE(parse_identity(content).valid()) << content;
  }
}

}  // namespace
}  // namespace trireme::config
