// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/nearest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "trireme/base/lower_case.hpp"

namespace trireme {
namespace {

constexpr std::size_t kLongestWord = 64;

// Optimal string alignment distance. Each row of the table depends on the two before it, so that
// only three rows are kept.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> above(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool equal = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (equal ? 0U : 1U)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1])) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

// The only word that starts with `written`; empty if there are several or none.
std::string completion(std::string_view written, const std::vector<std::string>& known) {
  const auto begins = [written](const std::string& word) {
    return written.size() >= 3 && word.starts_with(written);
  };
  return std::count_if(known.begin(), known.end(), begins) == 1
             ? *std::find_if(known.begin(), known.end(), begins)
             : std::string();
}

}  // namespace

std::string nearest(std::string_view written, const std::vector<std::string>& known) {
  if (written.size() > kLongestWord) {
    return {};
  }
  std::string best;
  std::size_t best_distance = kLongestWord;
  for (const auto& word : known) {
    const std::size_t allowed = word.size() <= 5 ? 1 : 2;
    if (word.size() > written.size() + allowed || written.size() > word.size() + allowed) {
      continue;
    }
    const std::size_t edits = distance(written, word);
    if (edits <= allowed && edits < best_distance && edits < word.size()) {
      best = word;
      best_distance = edits;
    }
  }
  return best.empty() ? completion(written, known) : best;
}

std::string did_you_mean(std::string_view written, const std::vector<std::string>& known,
                         std::string otherwise) {
  const std::string word = nearest(written, known);
  return word.empty() ? std::move(otherwise) : fmt::format("did you mean '{}'?", word);
}

}  // namespace trireme
