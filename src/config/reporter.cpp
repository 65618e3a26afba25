// SPDX-License-Identifier: Apache-2.0
#include "reporter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "words.hpp"

namespace trireme::config {

std::string Diagnostic::text() const {
  const std::string_view name = severity == Severity::error ? "error" : "warning";
  const std::string place = where.text();
  return fmt::format("{}{}{}: {}{}{}", place, place.empty() ? "" : ": ", name, message,
                     hint.empty() ? "" : "; ", hint);
}

bool Configuration::valid() const {
  return std::none_of(diagnostics.begin(), diagnostics.end(), [](const Diagnostic& d) {
    return d.severity == Diagnostic::Severity::error;
  });
}

void Reporter::error(policy::SourceLocation where, std::string message, std::string hint) {
  add({Diagnostic::Severity::error, std::move(where), std::move(message), std::move(hint)});
}

void Reporter::warn(policy::SourceLocation where, std::string message, std::string hint) {
  add({Diagnostic::Severity::warning, std::move(where), std::move(message), std::move(hint)});
}

void Reporter::warn(const policy::Finding& finding) {
  add({Diagnostic::Severity::warning, finding.where, finding.message, finding.hint,
       policy::text(finding.kind)});
}

void Reporter::add(Diagnostic diagnostic) {
  errors_ += diagnostic.severity == Diagnostic::Severity::error ? 1U : 0U;
  diagnostic.message = without_middle(printable(std::move(diagnostic.message)));
  diagnostic.hint = without_middle(printable(std::move(diagnostic.hint)));
  // Keep the first error even after kMaxKept warnings, because valid() searches for it.
  const bool first_error = diagnostic.severity == Diagnostic::Severity::error && errors_ == 1;
  if (diagnostics_.size() < kMaxKept || first_error) {
    diagnostics_.push_back(std::move(diagnostic));
  } else {
    ++left_out_;
  }
}

std::vector<Diagnostic> Reporter::take(const std::vector<std::string>& files) {
  std::map<std::string, std::size_t, std::less<>> order;
  for (const auto& file : files) {
    order.emplace(file, order.size() + 1);
  }
  const auto rank = [&order](const Diagnostic& d) {
    const auto found = order.find(d.where.file);
    return std::tuple(found == order.end() ? 0 : found->second, d.where.line, d.where.column);
  };
  std::stable_sort(diagnostics_.begin(), diagnostics_.end(),
                   [&rank](const auto& a, const auto& b) { return rank(a) < rank(b); });
  if (left_out_ > 0) {
    diagnostics_.push_back(
        {Diagnostic::Severity::warning,
         {},
         fmt::format("{} more problem{} not shown", left_out_, left_out_ == 1 ? " is" : "s are"),
         "fix these first"});
  }
  return std::move(diagnostics_);
}

}  // namespace trireme::config
