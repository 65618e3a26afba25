// SPDX-License-Identifier: Apache-2.0
#include "document.hpp"

#include <algorithm>

#include "words.hpp"

namespace trireme::config {
namespace {

// The parser creates one nested table per dot of a key and frees them recursively, so a key with a
// million dots would overflow the stack.
constexpr std::size_t kMaxDots = 16;

std::vector<std::string_view> split_lines(std::string_view content) {
  std::vector<std::string_view> lines;
  for (std::size_t start = 0; start <= content.size();) {
    const std::size_t end = std::min(content.find('\n', start), content.size());
    lines.push_back(content.substr(start, end - start));
    start = end + 1;
  }
  return lines;
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
      return at + closing.size();
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
    : file_(source.file), lines_(split_lines(source.content)) {}

std::optional<Document> Document::parse(const Source& source, Reporter& reporter) {
  Document document(source);
  if (const std::size_t deep = find_deep_key(source.content); deep != std::string_view::npos) {
    const auto line = std::count(source.content.begin(),
                                 source.content.begin() + static_cast<std::ptrdiff_t>(deep), '\n');
    reporter.error({source.file, static_cast<std::uint32_t>(line) + 1, 0},
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
  while (byte < text.size() && points < position.column) {
    ++byte;
    while (byte < text.size() && (static_cast<unsigned char>(text[byte]) & 0xC0U) == 0x80U) {
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
