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

const toml::node* TableReader::find(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
    known_.emplace_back(key);
  }
  return table_->get(key);
}

policy::SourceLocation TableReader::where(std::string_view key) const {
  const auto found = table_->find(key);
  return found == table_->end() ? where() : document_->at(found->first);
}

bool TableReader::lacks(std::string_view key) const {
  return std::none_of(table_->begin(), table_->end(), [this, key](const auto& item) {
    const std::string written(item.first.str());
    const bool unknown = std::find(known_.begin(), known_.end(), written) == known_.end();
    return written == key || (unknown && nearest(written, known_) == key);
  });
}

void TableReader::wrong_type(const toml::node& node, std::string_view key,
                             std::string_view expected, std::string hint) {
  reporter_->error(
      document_->at(node),
      fmt::format("'{}'{} must be {}, not {}", key, in_title(), expected, describe(node)),
      std::move(hint));
}

std::optional<Text> TableReader::text(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  const auto* string = node->as_string();
  if (string == nullptr) {
    wrong_type(*node, key, "a string",
               node->is_array() || node->is_table() ? "" : "put it in quotes");
    return std::nullopt;
  }
  return Text{string->get(), node};
}

std::optional<Text> TableReader::name(std::string_view key) {
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
  return written;
}

std::optional<bool> TableReader::boolean(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (const auto* value = node->as_boolean()) {
    return value->get();
  }
  wrong_type(*node, key, "true or false", node->is_string() ? "remove the quotes" : "");
  return std::nullopt;
}

std::optional<std::chrono::sys_seconds> TableReader::time(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  const auto* value = node->as_date_time();
  if (value == nullptr) {
    const bool has_a_date = node->is_date() || node->is_time();
    reporter_->error(document_->at(*node),
                     fmt::format("'{}'{} must be a date and a time{}", key, in_title(),
                                 has_a_date ? "" : fmt::format(", not {}", describe(*node))),
                     node->is_string() ? "remove the quotes: 2026-12-01T00:00:00Z"
                                       : "write 2026-12-01T00:00:00Z");
    return std::nullopt;
  }
  const toml::date_time& written = value->get();
  if (!written.offset) {
    reporter_->error(document_->at(*node),
                     fmt::format("'{}'{} has no offset from UTC", key, in_title()),
                     "add it: 2026-12-01T00:00:00Z, or +01:00 instead of Z");
    return std::nullopt;
  }
  if (written.time.nanosecond != 0) {
    reporter_->error(document_->at(*node),
                     fmt::format("'{}'{} has a fraction of a second", key, in_title()),
                     "write whole seconds");
    return std::nullopt;
  }
  const std::chrono::year_month_day day{std::chrono::year(written.date.year),
                                        std::chrono::month(written.date.month),
                                        std::chrono::day(written.date.day)};
  return std::chrono::sys_days(day) + std::chrono::hours(written.time.hour) +
         std::chrono::minutes(written.time.minute) + std::chrono::seconds(written.time.second) -
         std::chrono::minutes(written.offset->minutes);
}

std::vector<Text> TableReader::list(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return {};
  }
  const auto* array = node->as_array();
  if (array == nullptr) {
    wrong_type(*node, key, "a list of strings",
               node->is_string() ? "put it in brackets: [\"…\"]" : "");
    return {};
  }
  std::vector<Text> texts;
  for (const toml::node& element : *array) {
    if (const auto* string = element.as_string()) {
      texts.push_back({string->get(), &element});
    } else {
      reporter_->error(
          document_->at(element),
          fmt::format("'{}'{} must contain strings, not {}", key, in_title(), describe(element)),
          "put each element in quotes");
    }
  }
  return texts;
}

std::vector<Text> TableReader::text_or_list(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr || node->is_array()) {
    return list(key);
  }
  if (const auto* string = node->as_string()) {
    return {{string->get(), node}};
  }
  wrong_type(*node, key, "a string or a list of strings");
  return {};
}

void TableReader::set_label(policy::LabelSet& labels, const toml::key& key,
                            const toml::node& value) {
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

policy::LabelSet TableReader::labels(std::string_view key) {
  const toml::node* node = find(key);
  policy::LabelSet labels;
  if (node == nullptr) {
    return labels;
  }
  const auto* table = node->as_table();
  if (table == nullptr) {
    wrong_type(*node, key, "a table of labels", "write { app = \"web\", env = \"prod\" }");
    return labels;
  }
  for (const auto& [label_key, value] : *table) {
    set_label(labels, label_key, value);
  }
  return labels;
}

std::vector<std::pair<std::string, Text>> TableReader::texts(std::string_view key) {
  const toml::node* node = find(key);
  std::vector<std::pair<std::string, Text>> texts;
  if (node == nullptr) {
    return texts;
  }
  const auto* table = node->as_table();
  if (table == nullptr) {
    wrong_type(*node, key, "a table of strings", "write { app = \"com.docker.compose.project\" }");
    return texts;
  }
  for (const auto& [name, value] : *table) {
    if (const auto text = value.value_exact<std::string>()) {
      texts.emplace_back(std::string(name.str()), Text{*text, &value});
    } else {
      wrong_type(value, name.str(), "a string");
    }
  }
  return texts;
}

std::optional<TableReader> TableReader::section(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (const auto* table = node->as_table()) {
    return TableReader(*document_, *table, fmt::format("[{}]", key), *reporter_);
  }
  wrong_type(*node, key, "a table", fmt::format("write [{}], with single brackets", key));
  return std::nullopt;
}

std::vector<TableReader> TableReader::entries(std::string_view key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return {};
  }
  const std::string title = fmt::format("[[{}]]", key);
  const auto* array = node->as_array();
  if (array == nullptr) {
    wrong_type(*node, key, "a list of tables",
               fmt::format("write {}, with double brackets", title));
    return {};
  }
  std::vector<TableReader> readers;
  for (const toml::node& element : *array) {
    if (const auto* table = element.as_table()) {
      readers.emplace_back(*document_, *table, title, *reporter_);
    } else {
      reporter_->error(document_->at(element),
                       fmt::format("'{}' must contain tables, not {}", key, describe(element)),
                       fmt::format("write {} and the keys below it", title));
    }
  }
  return readers;
}

std::optional<TableReader> TableReader::table(std::string_view key) {
  const toml::node* node = table_->get(key);
  const auto* table = node == nullptr ? nullptr : node->as_table();
  return table == nullptr ? std::nullopt
                          : std::optional(TableReader(*document_, *table, title_, *reporter_));
}

void TableReader::unknown_word(std::string_view key, const Text& written,
                               const std::vector<std::string>& known) {
  const std::string all = fmt::format("use one of: {}", fmt::join(known, ", "));
  error(written, fmt::format("unknown value '{}' for '{}'{}", written.value, key, in_title()),
        did_you_mean(written.value, known, all));
}

void TableReader::finish(const std::vector<std::string>& elsewhere,
                         std::string_view elsewhere_file) {
  for (const auto& [key, value] : *table_) {
    const std::string written(key.str());
    if (std::find(known_.begin(), known_.end(), written) != known_.end()) {
      continue;
    }
    std::string hint;
    if (std::find(elsewhere.begin(), elsewhere.end(), written) != elsewhere.end()) {
      hint = fmt::format("it belongs in {}", elsewhere_file);
    } else {
      hint = did_you_mean(written, known_, fmt::format("valid keys: {}", fmt::join(known_, ", ")));
    }
    reporter_->error(document_->at(key), fmt::format("unknown key '{}'{}", written, in_title()),
                     std::move(hint));
  }
}

}  // namespace trireme::config
