// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over a Unix socket on the event loop. No call blocks.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/event.hpp"

namespace trireme::docker {

class Client {
 public:
  struct Answer {
    long status = 0;
    std::string body;
    std::string server;  // the Server: header, "Docker/20.10.24 (linux)"
  };
  using Done = std::function<void(Result<Answer>)>;
  /// Handlers of an endless answer, which is delivered line by line. `ended` is called once, as the
  /// last one.
  struct Stream {
    std::function<void(const Answer&)> opened;  // with status and server; the body is empty
    std::function<void(const std::string&)> line;
    std::function<void(const Error&)> ended;
  };

  [[nodiscard]] static Result<std::unique_ptr<Client>> create(sd_event* loop, std::string socket);
  /// Cancels all requests without calling their handlers. A handler may destroy the client.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// GET `path` ("/info"). Errors: a body of more than `limit` bytes, or no answer within 20 s
  /// after the request was started (only a limited number of requests run at the same time). An
  /// answer with any HTTP status is a success.
  void get(const std::string& path, std::size_t limit, Done done);
  /// GET without a time limit. A line of more than `line_limit` bytes ends the stream.
  void stream(const std::string& path, std::size_t line_limit, Stream handlers);

 private:
  struct Transfer;
  Client(sd_event* loop, std::string socket);
  Status open();
  [[nodiscard]] bool prepare(Transfer& transfer) const;
  void start(std::unique_ptr<Transfer> transfer);
  void start_waiting();
  void act(curl_socket_t fd, int events);
  [[nodiscard]] bool deliver_streams(const std::weak_ptr<bool>& alive);
  void finish_ended(const std::weak_ptr<bool>& alive);
  void watch_socket(curl_socket_t fd, int what);
  void set_timer(long milliseconds);

  static int on_socket(CURL* easy, curl_socket_t fd, int what, void* self, void* source);
  static int on_timer(CURLM* multi, long milliseconds, void* self);
  void act_on(curl_socket_t fd, std::uint32_t events);

  sd_event* loop_;
  std::string socket_;
  CURLM* multi_ = nullptr;
  event::Timer timer_;
  std::map<int, event::Io> watched_;
  std::map<CURL*, std::unique_ptr<Transfer>> active_;
  std::deque<std::unique_ptr<Transfer>> waiting_;
  std::shared_ptr<bool> alive_;
};

/// Percent-encodes `text` for use in the path or query of a URL (RFC 3986).
[[nodiscard]] std::string url_encode(std::string_view text);

}  // namespace trireme::docker
