// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/selector.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace trireme::policy {
namespace {

// Recursive-descent parser of one selector. An error reports the byte offset of the wrong
// character, or of the word or list that is wrong as a whole.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  tl::expected<std::vector<Requirement>, SelectorError> parse() {
    skip_space();
    if (done()) {
      return error(0, "empty selector",
                   "write '*' for every workload, or a condition such as app=web");
    }
    if (peek() == '*') {
      return parse_everything();
    }
    std::vector<Requirement> requirements;
    while (true) {
      auto requirement = parse_requirement();
      if (!requirement) {
        return tl::unexpected(requirement.error());
      }
      requirements.push_back(std::move(*requirement));
      skip_space();
      if (done()) {
        break;
      }
      if (peek() != ',') {
        return unexpected_rest(requirements.back());
      }
      ++at_;
    }
    std::sort(requirements.begin(), requirements.end());
    requirements.erase(std::unique(requirements.begin(), requirements.end()), requirements.end());
    return requirements;
  }

 private:
  using Parsed = tl::expected<Requirement, SelectorError>;
  static constexpr std::string_view kSpace = " \t\r\n";
  // '<' and '>' end a key, although nothing begins with them: who knows them from Kubernetes reads
  // which operators exist, not that the character is invalid in a key.
  static constexpr std::string_view kEndOfKey = " \t\r\n,()=!<>";
  static constexpr std::string_view kEndOfValue = " \t\r\n,()=";

  static tl::unexpected<SelectorError> error(std::size_t offset, std::string message,
                                             std::string hint = {}) {
    return tl::unexpected(SelectorError{offset, Error{std::move(message), std::move(hint)}});
  }

  [[nodiscard]] bool done() const { return at_ == text_.size(); }
  [[nodiscard]] char peek() const { return done() ? '\0' : text_[at_]; }
  void skip_space() { at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size()); }

  std::string_view take_until(std::string_view stop) {
    const std::size_t end = std::min(text_.find_first_of(stop, at_), text_.size());
    const std::string_view token = text_.substr(at_, end - at_);
    at_ = end;
    return token;
  }

  tl::expected<std::vector<Requirement>, SelectorError> parse_everything() {
    const std::size_t star = at_++;
    skip_space();
    if (!done()) {
      return error(star, "'*' cannot be combined with other conditions",
                   "remove the '*'; to match a prefix, write key=v*");
    }
    return std::vector<Requirement>{};
  }

  Parsed parse_requirement() {
    skip_space();
    if (peek() == '!') {
      return parse_absent();
    }
    Requirement requirement;
    if (auto key = parse_key()) {
      requirement.key = std::move(*key);
    } else {
      return tl::unexpected(key.error());
    }
    skip_space();
    if (done() || peek() == ',') {
      return requirement;
    }
    if (peek() == '=' || peek() == '!') {
      return parse_comparison(std::move(requirement));
    }
    return parse_membership(std::move(requirement));
  }

  Parsed parse_absent() {
    ++at_;
    skip_space();
    auto key = parse_key();
    if (!key) {
      return tl::unexpected(key.error());
    }
    skip_space();
    if (!done() && peek() != ',') {
      return error(at_, fmt::format("'!{}' takes no value", *key),
                   fmt::format("to exclude a value, write {}!=value", *key));
    }
    return Requirement{std::move(*key), Requirement::Operator::not_exists, {}};
  }

  tl::expected<std::string, SelectorError> parse_key() {
    const std::size_t start = at_;
    const std::string_view key = take_until(kEndOfKey);
    if (key.empty()) {
      if (done() || peek() == ',') {
        return error(start, "missing condition", "separate conditions with single commas");
      }
      return error(start, fmt::format("missing label key before '{}'", peek()));
    }
    if (key.front() == '@') {
      return error(start, fmt::format("'{}' is an entity, not a label", key),
                   "write an entity as a separate string: from = [\"app=web\", \"@host\"]");
    }
    if (auto status = check_key(key); !status) {
      return error(start, status.error().message, status.error().hint);
    }
    return std::string(key);
  }

  Parsed parse_comparison(Requirement requirement) {
    requirement.op = Requirement::Operator::in;
    if (peek() == '!') {
      requirement.op = Requirement::Operator::not_in;
      ++at_;
      if (peek() != '=') {
        return error(at_ - 1, fmt::format("unexpected '!' after key '{}'", requirement.key),
                     fmt::format("write {0}!=value, or !{0}", requirement.key));
      }
    } else if (text_.substr(at_, 2) == "==") {
      ++at_;
    }
    ++at_;
    skip_space();
    auto value = parse_value();
    if (!value) {
      return tl::unexpected(value.error());
    }
    requirement.values.push_back(std::move(*value));
    return requirement;
  }

  Parsed parse_membership(Requirement requirement) {
    const std::size_t start = at_;
    const std::string_view word = take_until(kEndOfKey);
    if (word == "in") {
      requirement.op = Requirement::Operator::in;
    } else if (word == "notin") {
      requirement.op = Requirement::Operator::not_in;
    } else {
      return error(
          start,
          fmt::format("expected '=', '!=', 'in', 'notin' or ',' after key '{}'", requirement.key),
          fmt::format("write {}=value or {} in (a, b)", requirement.key, requirement.key));
    }
    skip_space();
    if (peek() != '(') {
      return error(at_, fmt::format("expected '(' after '{}'", word),
                   fmt::format("write {} {} (a, b)", requirement.key, word));
    }
    return parse_list(std::move(requirement));
  }

  Parsed parse_list(Requirement requirement) {
    const std::size_t open = at_;
    do {
      ++at_;
      skip_space();
      if (done()) {
        return error(open, "'(' is never closed");
      }
      if (peek() == ')' || peek() == ',') {
        return error(at_, "missing value", "for an empty value, write key=");
      }
      auto value = parse_value();
      if (!value) {
        return tl::unexpected(value.error());
      }
      requirement.values.push_back(std::move(*value));
      skip_space();
    } while (peek() == ',');
    if (done()) {
      return error(open, "'(' is never closed");
    }
    if (peek() != ')') {
      return error(at_, "expected ',' or ')'");
    }
    ++at_;
    auto& values = requirement.values;
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return requirement;
  }

  tl::expected<std::string, SelectorError> parse_value() {
    const std::size_t start = at_;
    const std::string_view value = take_until(kEndOfValue);
    if (peek() == '=') {
      return error(at_, "unexpected second '='",
                   "a value cannot contain '='; separate conditions with commas");
    }
    if (peek() == '(') {
      return error(at_, "a list needs 'in' or 'notin'", "write key in (a, b)");
    }
    const std::size_t star = value.find('*');
    if (star != std::string_view::npos && star + 1 != value.size()) {
      return error(start + star, "'*' is allowed only at the end of a value",
                   "v* matches every value that starts with v");
    }
    if (auto status = check_value(value.substr(0, star)); !status) {
      return error(start, status.error().message, status.error().hint);
    }
    return std::string(value);
  }

  [[nodiscard]] tl::unexpected<SelectorError> unexpected_rest(const Requirement& before) const {
    if (peek() == ')') {
      return error(at_, "')' without '('");
    }
    return error(at_, fmt::format("expected ',' after '{}'", before.text()),
                 "separate conditions with commas");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view value) {
  return pattern.ends_with('*') ? value.starts_with(pattern.substr(0, pattern.size() - 1))
                                : value == pattern;
}

Result<Label> parse_label_pattern(std::string_view text) {
  const bool prefix = text.ends_with('*');
  auto label = parse_label(text.substr(0, text.size() - (prefix ? 1 : 0)));
  if (label && prefix) {
    label->value += '*';
  }
  return label;
}

bool cover(const std::vector<Label>& patterns, const LabelSet& labels) {
  return std::all_of(labels.items().begin(), labels.items().end(), [&patterns](const auto& item) {
    return std::any_of(patterns.begin(), patterns.end(), [&item](const Label& pattern) {
      return pattern.key == item.first && matches_pattern(pattern.value, item.second);
    });
  });
}

bool Requirement::matches(const LabelSet& labels) const {
  const std::string* value = labels.find(key);
  const auto listed = [&] {
    return std::any_of(values.begin(), values.end(), [&](const std::string& pattern) {
      return matches_pattern(pattern, *value);
    });
  };
  switch (op) {
    case Operator::in:
      return value != nullptr && listed();
    case Operator::not_in:
      return value == nullptr || !listed();
    case Operator::exists:
      return value != nullptr;
    case Operator::not_exists:
      return value == nullptr;
  }
  return false;
}

bool Requirement::needs_key() const {
  switch (op) {
    case Operator::in:
    case Operator::exists:
      return true;
    case Operator::not_in:
    case Operator::not_exists:
      return false;
  }
  return false;
}

const std::vector<std::string>* Requirement::exact_values() const {
  switch (op) {
    case Operator::in: {
      const bool exact = std::none_of(values.begin(), values.end(), [](const std::string& value) {
        return value.ends_with('*');
      });
      return exact ? &values : nullptr;
    }
    case Operator::not_in:
    case Operator::exists:
    case Operator::not_exists:
      return nullptr;
  }
  return nullptr;
}

std::string Requirement::text() const {
  switch (op) {
    case Operator::exists:
      return key;
    case Operator::not_exists:
      return "!" + key;
    case Operator::in:
      return values.size() == 1 ? key + "=" + values.front()
                                : fmt::format("{} in ({})", key, fmt::join(values, ", "));
    case Operator::not_in:
      return values.size() == 1 ? key + "!=" + values.front()
                                : fmt::format("{} notin ({})", key, fmt::join(values, ", "));
  }
  return key;
}

tl::expected<Selector, SelectorError> Selector::parse(std::string_view text) {
  auto requirements = Parser(text).parse();
  if (!requirements) {
    return tl::unexpected(requirements.error());
  }
  Selector selector;
  selector.requirements_ = std::move(*requirements);
  return selector;
}

bool Selector::matches(const LabelSet& labels) const {
  return std::all_of(requirements_.begin(), requirements_.end(),
                     [&](const Requirement& requirement) { return requirement.matches(labels); });
}

std::string Selector::text() const {
  if (requirements_.empty()) {
    return "*";
  }
  std::string text;
  for (const auto& requirement : requirements_) {
    text += (text.empty() ? "" : ",") + requirement.text();
  }
  return text;
}

bool is_clearly_selector(std::string_view text) {
  return (text.find_first_of("!,(*") != std::string_view::npos ||
          text.find("==") != std::string_view::npos) &&
         Selector::parse(text).has_value();
}

Result<LabelSet> parse_labels(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  LabelSet labels;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    std::string_view part = text.substr(start, end - start);
    part.remove_prefix(std::min(part.find_first_not_of(kSpace), part.size()));
    part = part.substr(0, part.find_last_not_of(kSpace) + 1);
    auto label = parse_label(part);
    if (!label) {
      if (is_clearly_selector(text)) {
        return fail(fmt::format("'{}' is a selector, not the labels of one workload", text),
                    "write all labels of the workload: app=web,env=prod");
      }
      return tl::unexpected(label.error());
    }
    if (labels.find(label->key) != nullptr) {
      return fail(fmt::format("label '{}' is given twice", label->key));
    }
    if (auto status = labels.set(label->key, label->value); !status) {
      return tl::unexpected(status.error());
    }
    start = end + 1;
  }
  return labels;
}

}  // namespace trireme::policy
