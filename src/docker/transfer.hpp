// SPDX-License-Identifier: Apache-2.0
// One request of Client, with the part of its answer that was received.
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
  /// Takes the parts of a stream that were not delivered yet, with the handlers to deliver them to.
  [[nodiscard]] std::tuple<std::optional<Answer>, std::vector<std::string>, Stream> take();
  /// Calls the handler with the result. The transfer must already be removed from the client's
  /// lists.
  void end(CURLcode code);

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);

  std::string path;
  std::size_t limit = 0;  // maximum size in bytes of the body, or of a line of a stream
  Done done;
  Stream stream;

  CURL* easy = nullptr;
  Answer answer;  // of a stream: the body contains the incomplete last line
  bool has_headers = false;
  bool reported_opened = false;
  bool is_too_large = false;
  std::vector<std::string> lines;
  std::array<char, CURL_ERROR_SIZE> error{};

 private:
  [[nodiscard]] bool append(std::string_view data);
  [[nodiscard]] Error reason(CURLcode code) const;
};

}  // namespace trireme::docker
