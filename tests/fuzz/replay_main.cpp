// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target on files instead of generated inputs: replays a corpus, or an input that
// caused a crash.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "trireme/base/file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(const fs::path& path) {
  if (!fs::is_directory(path)) {
    return {path};
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& file : files_of(argv[i])) {
      const auto content = trireme::read_file(file.string());
      if (!content) {
        std::fprintf(stderr, "%s\n", content.error().text().c_str());
        return 1;
      }
      std::printf("%s\n", file.c_str());
      std::fflush(stdout);  // in a crash, the last printed name is the cause
      (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(content->data()),
                                   content->size());
      ++count;
    }
  }
  std::printf("%zu inputs\n", count);
  return count == 0 ? 1 : 0;
}
