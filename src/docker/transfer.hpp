// SPDX-License-Identifier: Apache-2.0
// One request of Client and what has come of its answer.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "client.hpp"

namespace trireme::docker {

struct Client::Transfer {
  Transfer() = default;
  ~Transfer() { curl_easy_cleanup(easy); }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  [[nodiscard]] bool is_stream() const { return static_cast<bool>(stream.ended); }
  /// What of a stream has not been handed on yet, with its handlers.
  [[nodiscard]] std::tuple<std::optional<Answer>, std::vector<std::string>, Stream> take();
  /// Calls the handler that says how it went. The transfer is out of the client's lists by then.
  void end(CURLcode code);

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);

  std::string path;
  std::size_t limit = 0;  // of the body, or of a stream's line
  Done done;
  Stream stream;

  CURL* easy = nullptr;
  Answer answer;  // of a stream: the body is the line that has begun
  bool has_headers = false;
  bool told_opened = false;
  bool is_too_large = false;
  std::vector<std::string> lines;
  std::array<char, CURL_ERROR_SIZE> error{};

 private:
  [[nodiscard]] bool append(std::string_view data);
  [[nodiscard]] Error reason(CURLcode code) const;
};

}  // namespace trireme::docker
