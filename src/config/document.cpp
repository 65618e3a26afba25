// SPDX-License-Identifier: Apache-2.0
#include "document.hpp"

#include <algorithm>

#include "trireme/base/lower_case.hpp"

namespace trireme::config {
namespace {

// The parser creates one nested table per dot of a key and frees them recursively, so a key with a
// million dots would overflow the stack.
constexpr std::size_t kMaxDots = 16;

constexpr std::uint32_t kMarked = 256;  // code points between two marks of a line

/// Without a byte order mark at its start, which is in no column: the parser and editors skip it.
std::string_view without_mark(std::string_view content) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  return content.starts_with(kMark) ? content.substr(kMark.size()) : content;
}

std::vector<std::string_view> split_lines(std::string_view content) {
  std::vector<std::string_view> lines;
  for (std::size_t start = 0; start <= content.size();) {
    const std::size_t end = std::min(content.find('\n', start), content.size());
    lines.push_back(content.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

/// Whether the byte is not the first one of a code point.
bool continues(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

/// The offset of every kMarked-th code point. The first byte begins one, whatever it is.
std::vector<std::uint32_t> marks_of(std::string_view line) {
  std::vector<std::uint32_t> marks;
  std::uint32_t points = 0;
  for (std::size_t byte = 0; byte < line.size(); ++byte) {
    if (byte > 0 && continues(line[byte])) {
      continue;
    }
    if (points % kMarked == 0) {
      marks.push_back(static_cast<std::uint32_t>(byte));
    }
    ++points;
  }
  return marks;
}

// Returns the offset after the string that starts at `start`. An unterminated string ends at the
// end of its line, or, if it is a multi-line string, at the end of the content.
std::size_t skip_string(std::string_view content, std::size_t start) {
  const char quote = content[start];
  const bool multi_line = content.substr(start, 3) == std::string(3, quote);
  const std::string closing(multi_line ? 3 : 1, quote);
  for (std::size_t at = start + closing.size(); at < content.size(); ++at) {
    if (content[at] == '\\' && quote == '"') {
      ++at;
    } else if (content.substr(at, closing.size()) == closing) {
      std::size_t end = at + closing.size();
      // A multi-line string can end with two quotes of its own: """a""""".
      while (multi_line && end < at + 5 && end < content.size() && content[end] == quote) {
        ++end;
      }
      return end;
    } else if (content[at] == '\n' && !multi_line) {
      return at;
    }
  }
  return content.size();
}

// Returns the offset of the first dot that exceeds kMaxDots in one key; npos if there is none.
std::size_t find_deep_key(std::string_view content) {
  std::size_t dots = 0;
  for (std::size_t at = 0; at < content.size();) {
    const char c = content[at];
    if (c == '"' || c == '\'') {
      at = skip_string(content, at);
      continue;
    }
    if (c == '#') {
      at = std::min(content.find('\n', at), content.size());
      continue;
    }
    if (c == '.' && ++dots > kMaxDots) {
      return at;
    }
    if (c == '\n' || c == '=' || c == ',') {
      dots = 0;
    }
    ++at;
  }
  return std::string_view::npos;
}

std::string syntax_message(std::string_view description) {
  constexpr std::string_view kPrefix = "Error while ";
  if (description.starts_with(kPrefix)) {
    return "syntax error while " + std::string(description.substr(kPrefix.size()));
  }
  return "syntax error: " + lower_case(description.substr(0, 1)) +
         std::string(description.substr(std::min<std::size_t>(1, description.size())));
}

std::string syntax_hint(std::string_view description) {
  if (description.find("redefine") != std::string_view::npos) {
    return "it is defined twice; keep one, and write a list of tables as [[name]]";
  }
  if (description.find("parsing value") != std::string_view::npos ||
      description.find("parsing boolean") != std::string_view::npos) {
    return "put a string in quotes: \"…\"";
  }
  return {};
}

}  // namespace

Document::Document(const Source& source)
    : file_(source.file), lines_(split_lines(without_mark(source.content))) {
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    if (lines_[i].size() > kMarked && std::ranges::any_of(lines_[i], continues)) {
      marks_.emplace(static_cast<std::uint32_t>(i) + 1, marks_of(lines_[i]));
    }
  }
}

std::optional<Document> Document::parse(const Source& source, Reporter& reporter) {
  Document document(source);
  const std::string_view content = without_mark(source.content);
  if (const std::size_t deep = find_deep_key(content); deep != std::string_view::npos) {
    const std::string_view before = content.substr(0, deep);
    const auto line = std::ranges::count(before, '\n');
    const std::size_t column = deep - (before.rfind('\n') + 1);  // npos + 1 is 0
    reporter.error(
        {source.file, static_cast<std::uint32_t>(line) + 1, static_cast<std::uint32_t>(column) + 1},
        "this key has too many dots, which nest too deep",
        "quote a key that contains dots: \"app.kubernetes.io/name\" = \"web\"");
    return std::nullopt;
  }
  try {
    document.root_ = toml::parse(source.content, std::string_view(source.file));
  } catch (const toml::parse_error& error) {
    reporter.error(document.at(error.source().begin), syntax_message(error.description()),
                   syntax_hint(error.description()));
    return std::nullopt;
  }
  return document;
}

std::string_view Document::line(std::uint32_t number) const {
  return number >= 1 && number <= lines_.size() ? lines_[number - 1] : std::string_view{};
}

// Converts the column: toml++ counts code points, but compilers and editors' jump commands count
// bytes.
policy::SourceLocation Document::at(toml::source_position position) const {
  const std::string_view text = line(position.line);
  std::uint32_t points = 1;
  std::size_t byte = 0;
  if (text.size() > kMarked && position.column > 0) {
    const auto marks = marks_.find(position.line);
    if (marks == marks_.end()) {
      return {file_, position.line, position.column};  // ASCII
    }
    const std::size_t mark =
        std::min<std::size_t>((position.column - 1) / kMarked, marks->second.size() - 1);
    points += static_cast<std::uint32_t>(mark) * kMarked;
    byte = marks->second[mark];
  }
  while (byte < text.size() && points < position.column) {
    ++byte;
    while (byte < text.size() && continues(text[byte])) {
      ++byte;
    }
    ++points;
  }
  const auto beyond = position.column > points ? position.column - points : 0;
  return {file_, position.line, static_cast<std::uint32_t>(byte) + beyond + 1};
}

policy::SourceLocation Document::inside(const toml::node& text, std::size_t offset) const {
  policy::SourceLocation where = at(text);
  const auto& region = text.source();
  const std::string_view all = line(where.line);
  if (region.begin.line != region.end.line || where.column > all.size()) {
    return where;
  }
  const std::string_view raw = all.substr(where.column - 1);
  const std::string* value = text.as_string() == nullptr ? nullptr : &text.as_string()->get();
  if (value == nullptr || raw.size() < value->size() + 2 ||
      raw.substr(1, value->size()) != *value || raw[value->size() + 1] != raw[0]) {
    return where;
  }
  where.column += static_cast<std::uint32_t>(offset) + 1;
  return where;
}

}  // namespace trireme::config
