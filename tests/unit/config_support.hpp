// SPDX-License-Identifier: Apache-2.0
// Helpers for the tests of the config room.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "trireme/base/file.hpp"
#include "trireme/config/loader.hpp"

namespace trireme::config {

/// The texts of the diagnostics, in order.
inline std::vector<std::string> texts(const Configuration& configuration) {
  std::vector<std::string> texts;
  for (const auto& diagnostic : configuration.diagnostics) {
    texts.push_back(diagnostic.text());
  }
  return texts;
}

inline Configuration parse_policy(const std::string& content) {
  return parse({{"policy.toml", content}}, {});
}
inline Configuration parse_identity(const std::string& content) {
  return parse({}, {{"identity.toml", content}});
}

/// A new directory; the destructor removes it and its contents.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "trireme-config-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data()) == nullptr ? std::string() : pattern;
    EXPECT_FALSE(path_.empty());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    const auto status = write_file(path(name), content);
    ASSERT_TRUE(status) << status.error().text();
  }

 private:
  std::string path_;
};

}  // namespace trireme::config
