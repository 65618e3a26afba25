// SPDX-License-Identifier: Apache-2.0
#include "table_reader.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "trireme/base/nearest.hpp"

namespace trireme::config {

std::string_view describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

TableReader::TableReader(const Document& document, const Shape& shape, const Shape& other,
                         Reporter& reporter)
    : document_(&document), table_(&document.root()), section_(&shape.top), reporter_(&reporter) {
  check(&other);
}

TableReader::TableReader(const Document& document, const toml::table& table, std::string title,
                         const Section& section, Reporter& reporter)
    : document_(&document),
      table_(&table),
      title_(std::move(title)),
      section_(&section),
      reporter_(&reporter) {
  check(nullptr);
}

/// Reports unknown keys and values that are not as the section says. `other`: of the file in which
/// an unknown key may belong.
void TableReader::check(const Shape* other) {
  for (const auto& [key, value] : *table_) {
    const std::string written(key.str());
    const std::size_t errors = reporter_->errors();
    if (const Key* known = section_->find(written)) {
      if (!check_value(*known, value)) {
        invalid_.insert(written);
      }
      if (reporter_->errors() != errors) {
        flawed_.insert(written);
        is_sound_ = false;
      }
      continue;
    }
    is_sound_ = false;
    const auto names = section_->names();
    const bool is_elsewhere = other != nullptr && other->top.find(written) != nullptr;
    reporter_->error(
        document_->at(key), fmt::format("unknown key '{}'{}", written, in_title()),
        is_elsewhere
            ? fmt::format("it belongs in {}", other->file)
            : did_you_mean(written, names, fmt::format("valid keys: {}", fmt::join(names, ", "))));
  }
}

bool TableReader::check_value(const Key& key, const toml::node& node) {
  switch (key.type) {
    case Key::Type::text:
      return node.is_string() ||
             wrong_type(node, key.name, "a string",
                        node.is_array() || node.is_table() ? "" : "put it in quotes");
    case Key::Type::word:
      return check_word(key, node);
    case Key::Type::boolean:
      return node.is_boolean() || wrong_type(node, key.name, "true or false",
                                             node.is_string() ? "remove the quotes" : "");
    case Key::Type::time:
      return check_time(key, node);
    case Key::Type::list:
    case Key::Type::text_or_list:
      return check_list(key, node);
    case Key::Type::labels:
      return node.is_table() || wrong_type(node, key.name, "a table of labels",
                                           "write { app = \"web\", env = \"prod\" }");
    case Key::Type::labels_or_text:
      return node.is_table() || node.is_string() ||
             wrong_type(node, key.name, "a string", node.is_array() ? "" : "put it in quotes");
    case Key::Type::texts:
      return node.is_table() || wrong_type(node, key.name, "a table of strings",
                                           "write { app = \"com.docker.compose.project\" }");
    case Key::Type::section:
      return node.is_table() ||
             wrong_type(node, key.name, "a table",
                        fmt::format("write [{}], with single brackets", key.name));
    case Key::Type::entries:
      return check_entries(key, node);
  }
  return false;
}

bool TableReader::check_word(const Key& key, const toml::node& node) {
  const auto* text = node.as_string();
  if (text == nullptr) {
    return wrong_type(node, key.name, "a string",
                      node.is_array() || node.is_table() ? "" : "put it in quotes");
  }
  if (std::ranges::find(key.words, text->get()) != key.words.end()) {
    return true;
  }
  reporter_->error(document_->at(node),
                   fmt::format("unknown value '{}' for '{}'{}", text->get(), key.name, in_title()),
                   did_you_mean(text->get(), key.words,
                                fmt::format("use one of: {}", fmt::join(key.words, ", "))));
  return false;
}

bool TableReader::check_time(const Key& key, const toml::node& node) {
  const auto* value = node.as_date_time();
  const auto complain = [&](std::string_view what, std::string hint) {
    reporter_->error(document_->at(node), fmt::format("'{}'{} {}", key.name, in_title(), what),
                     std::move(hint));
    return false;
  };
  if (value == nullptr && (node.is_date() || node.is_time())) {
    return complain("must be a date and a time", "write 2026-12-01T00:00:00Z");
  }
  if (value == nullptr) {
    return wrong_type(node, key.name, "a date and a time",
                      node.is_string() ? "remove the quotes: 2026-12-01T00:00:00Z"
                                       : "write 2026-12-01T00:00:00Z");
  }
  if (!value->get().offset) {
    return complain("has no offset from UTC",
                    "add it: 2026-12-01T00:00:00Z, or +01:00 instead of Z");
  }
  return value->get().time.nanosecond == 0 ||
         complain("has a fraction of a second", "write whole seconds");
}

bool TableReader::check_list(const Key& key, const toml::node& node) {
  const bool may_be_text = key.type == Key::Type::text_or_list;
  if (may_be_text && node.is_string()) {
    return true;
  }
  const auto* array = node.as_array();
  if (array == nullptr) {
    return may_be_text ? wrong_type(node, key.name, "a string or a list of strings")
                       : wrong_type(node, key.name, "a list of strings",
                                    node.is_string() ? "put it in brackets: [\"…\"]" : "");
  }
  for (const toml::node& element : *array) {
    if (!element.is_string()) {
      reporter_->error(document_->at(element),
                       fmt::format("'{}'{} must contain strings, not {}", key.name, in_title(),
                                   describe(element)),
                       "put each element in quotes");
    }
  }
  return true;  // the other elements are read
}

bool TableReader::check_entries(const Key& key, const toml::node& node) {
  const std::string title = fmt::format("[[{}]]", key.name);
  const auto* array = node.as_array();
  if (array == nullptr) {
    return wrong_type(node, key.name, "a list of tables",
                      fmt::format("write {}, with double brackets", title));
  }
  for (const toml::node& element : *array) {
    if (!element.is_table()) {
      reporter_->error(document_->at(element),
                       fmt::format("'{}' must contain tables, not {}", key.name, describe(element)),
                       fmt::format("write {} and the keys below it", title));
    }
  }
  return true;
}

/// Returns false.
bool TableReader::wrong_type(const toml::node& node, std::string_view key,
                             std::string_view expected, std::string hint) {
  reporter_->error(
      document_->at(node),
      fmt::format("'{}'{} must be {}, not {}", key, in_title(), expected, describe(node)),
      std::move(hint));
  return false;
}

policy::SourceLocation TableReader::where(std::string_view key) const {
  const auto found = table_->find(key);
  return found == table_->end() ? where() : document_->at(found->first);
}

bool TableReader::lacks(std::string_view key) const {
  const auto names = section_->names();
  return std::none_of(table_->begin(), table_->end(), [&](const auto& item) {
    const std::string written(item.first.str());
    const bool unknown = section_->find(written) == nullptr;
    return written == key || (unknown && nearest(written, names) == key);
  });
}

bool TableReader::is_empty_list(std::string_view key) const {
  const toml::node* node = find(key);
  return node != nullptr && node->is_array() && node->as_array()->empty();
}

bool TableReader::is_table(std::string_view key) const {
  const toml::node* node = find(key);
  return node != nullptr && node->is_table();
}

const toml::node* TableReader::valid(std::string_view key) const {
  return invalid_.contains(key) ? nullptr : table_->get(key);
}

std::optional<Text> TableReader::text(std::string_view key) const {
  const toml::node* node = valid(key);
  const auto* string = node == nullptr ? nullptr : node->as_string();
  return string == nullptr ? std::nullopt : std::optional(Text{string->get(), node});
}

std::optional<Text> TableReader::name(std::string_view key) const {
  auto written = text(key);
  if (!written) {
    return std::nullopt;
  }
  if (written->value.empty()) {
    error(*written, fmt::format("'{}'{} is empty", key, in_title()),
          "add a value or remove the key");
    return std::nullopt;
  }
  if (!policy::is_printable(written->value)) {
    error(*written, fmt::format("'{}'{} contains a control character", key, in_title()));
    return std::nullopt;
  }
  if (const std::size_t longest = section_->find(key)->longest;
      longest != 0 && written->value.size() > longest) {
    error(*written, fmt::format("'{}'{} is longer than {} bytes", key, in_title(), longest),
          "shorten it");
    return std::nullopt;
  }
  return written;
}

std::optional<bool> TableReader::boolean(std::string_view key) const {
  const toml::node* node = valid(key);
  return node == nullptr ? std::nullopt : std::optional(node->as_boolean()->get());
}

std::optional<std::chrono::sys_seconds> TableReader::time(std::string_view key) const {
  const toml::node* node = valid(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  const toml::date_time& written = node->as_date_time()->get();
  const std::chrono::year_month_day day{std::chrono::year(written.date.year),
                                        std::chrono::month(written.date.month),
                                        std::chrono::day(written.date.day)};
  return std::chrono::sys_days(day) + std::chrono::hours(written.time.hour) +
         std::chrono::minutes(written.time.minute) + std::chrono::seconds(written.time.second) -
         std::chrono::minutes(written.offset->minutes);
}

std::vector<Text> TableReader::list(std::string_view key) const {
  const toml::node* node = valid(key);
  std::vector<Text> texts;
  if (node == nullptr) {
    return texts;
  }
  if (const auto* string = node->as_string()) {
    return {{string->get(), node}};
  }
  for (const toml::node& element : *node->as_array()) {
    if (const auto* string = element.as_string()) {
      texts.push_back({string->get(), &element});
    }
  }
  return texts;
}

void TableReader::set_label(policy::LabelSet& labels, const toml::key& key,
                            const toml::node& value) const {
  if (value.is_table()) {
    reporter_->error(document_->at(key),
                     fmt::format("label '{}' must be a string, not a table", key.str()),
                     "quote a key that contains dots: \"app.kubernetes.io/name\" = \"web\"");
    return;
  }
  const auto* string = value.as_string();
  if (string == nullptr) {
    reporter_->error(document_->at(value),
                     fmt::format("label '{}' must be a string, not {}", key.str(), describe(value)),
                     "put it in quotes");
    return;
  }
  if (auto status = policy::check_key(key.str()); !status) {
    reporter_->error(document_->at(key), status.error());
    return;
  }
  if (auto status = policy::check_value(string->get()); !status) {
    reporter_->error(document_->at(value), status.error());
    return;
  }
  if (auto status = labels.set(key.str(), string->get()); !status) {
    reporter_->error(document_->at(key), status.error());
  }
}

policy::LabelSet TableReader::labels(std::string_view key) const {
  const toml::node* node = valid(key);
  policy::LabelSet labels;
  if (node == nullptr) {
    return labels;
  }
  for (const auto& [label_key, value] : *node->as_table()) {
    set_label(labels, label_key, value);
  }
  return labels;
}

std::vector<std::pair<std::string, Text>> TableReader::texts(std::string_view key) const {
  const toml::node* node = valid(key);
  std::vector<std::pair<std::string, Text>> texts;
  if (node == nullptr) {
    return texts;
  }
  for (const auto& [name, value] : *node->as_table()) {
    if (const auto text = value.value_exact<std::string>()) {
      texts.emplace_back(std::string(name.str()), Text{*text, &value});
    } else {
      reporter_->error(
          document_->at(value),
          fmt::format("'{}'{} must be a string, not {}", name.str(), in_title(), describe(value)),
          value.is_table() ? "quote a key that contains dots: \"app.kubernetes.io/name\" = \"…\""
                           : "put it in quotes");
    }
  }
  return texts;
}

std::optional<TableReader> TableReader::section(std::string_view key) const {
  const toml::node* node = valid(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  return TableReader(*document_, *node->as_table(), fmt::format("[{}]", key),
                     *section_->find(key)->section, *reporter_);
}

std::vector<TableReader> TableReader::entries(std::string_view key) const {
  const toml::node* node = valid(key);
  std::vector<TableReader> readers;
  if (node == nullptr) {
    return readers;
  }
  for (const toml::node& element : *node->as_array()) {
    if (const auto* table = element.as_table()) {
      readers.push_back(TableReader(*document_, *table, fmt::format("[[{}]]", key),
                                    *section_->find(key)->section, *reporter_));
    }
  }
  return readers;
}

std::optional<std::size_t> TableReader::word(std::string_view key) const {
  const auto written = text(key);
  if (!written) {
    return std::nullopt;
  }
  const auto& words = section_->find(key)->words;
  return static_cast<std::size_t>(std::ranges::find(words, written->value) - words.begin());
}

}  // namespace trireme::config
