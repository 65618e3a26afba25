// SPDX-License-Identifier: Apache-2.0
// Diagnostics as annotations of GitHub Actions.
#include <gtest/gtest.h>

#include "diagnostic_text.hpp"

namespace trireme::cli {
namespace {

using Severity = config::Diagnostic::Severity;

TEST(GithubAnnotation, HasPlaceMessageAndHint) {
  const config::Diagnostic error = {Severity::error,
                                    {"policy.d/web.toml", 12, 8},
                                    "unknown key 'form' in [[allow]]",
                                    "did you mean 'from'?"};
  EXPECT_EQ(github_annotation("policies/web", error),
            "::error file=policies/web/policy.d/web.toml,line=12,col=8::unknown key 'form' in "
            "[[allow]]; did you mean 'from'?");
  EXPECT_EQ(github_annotation("./policies/", {Severity::warning, {"policy.toml", 3, 0}, "a", ""}),
            "::warning file=policies/policy.toml,line=3::a");
  EXPECT_EQ(github_annotation(".", {Severity::error, {"policy.toml", 0, 0}, "a", ""}),
            "::error file=policy.toml::a");
  EXPECT_EQ(github_annotation("/x", {Severity::error, {}, "a", ""}), "::error::a");
}

// A file must not be able to end its annotation and to begin another command.
TEST(GithubAnnotation, EscapesWhatTheRunnerReads) {
  EXPECT_EQ(github_annotation("a:b,c%", {Severity::error, {"x.toml", 1, 1}, "50%: a,\r\n::b", ""}),
            "::error file=a%3Ab%2Cc%25/x.toml,line=1,col=1::50%25: a,%0D%0A::b");
  EXPECT_EQ(
      github_annotation(
          "/a\x1B",
          {Severity::error, {"x\xC2\x9B.toml", 1, 1}, "a\x1B[1m\xC2\x9B\xE2\x80\xAEz", "\x7F"}),
      "::error file=/a?/x?.toml,line=1,col=1::a?[1m??z; ?");
}

}  // namespace
}  // namespace trireme::cli
