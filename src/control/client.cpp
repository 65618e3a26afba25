// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>

namespace trireme::control {

namespace {

/// Bytes. Far above any answer: protects against a peer that is not triremed.
constexpr std::size_t kLineLimit = 256U << 20U;
constexpr timeval kConnectTimeout{.tv_sec = 10, .tv_usec = 0};

enum class Waited : std::uint8_t { ready, silent, reader_gone };

/// Waits for `events`, at most `timeout`; zero means without limit. Also returns when the reading
/// end of the pipe `reader` is closed (-1: there is no such pipe).
Result<Waited> wait(int fd, short events, std::chrono::milliseconds timeout, int reader = -1) {
  std::array<pollfd, 2> entries = {pollfd{.fd = fd, .events = events, .revents = 0},
                                   pollfd{.fd = reader, .events = 0, .revents = 0}};
  const int limit = timeout.count() == 0 ? -1 : static_cast<int>(timeout.count());
  int rc = 0;
  do {
    rc = ::poll(entries.data(), entries.size(), limit);
  } while (rc < 0 && errno == EINTR);
  if (rc < 0) {
    return fail_errno("cannot wait for trireme's answer");
  }
  return (entries[1].revents & POLLERR) != 0 ? Waited::reader_gone
         : rc > 0                            ? Waited::ready
                                             : Waited::silent;
}

tl::unexpected<Error> silent() {
  return fail("trireme did not answer in time", "see 'systemctl status trireme' and its log");
}

}  // namespace

Result<Client> Client::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail("the socket path " + path + " is too long", "choose a shorter --runtime-dir");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return fail_errno("cannot create a socket");
  }
  // Also limits connect(2), which blocks while the daemon's backlog is full.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kConnectTimeout, sizeof kConnectTimeout);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    auto error = fail_errno("cannot reach trireme at " + path);
    error.value().hint = "run 'systemctl start trireme', or choose the instance with --runtime-dir";
    return error;
  }
  return Client(std::move(fd));
}

Status Client::send(const std::string& line, std::chrono::milliseconds timeout) {
  std::size_t sent = 0;
  while (sent < line.size()) {
    const auto ready = wait(fd_.get(), POLLOUT, timeout);
    if (!ready) {
      return tl::unexpected(ready.error());
    }
    if (*ready == Waited::silent) {
      return silent();
    }
    const ssize_t count =
        ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EPIPE) {
      return {};  // the daemon may have sent an error before it closed the connection: read it
    } else if (errno != EINTR && errno != EAGAIN) {
      return fail_errno("cannot send to trireme");
    }
  }
  return {};
}

Result<std::optional<std::string>> Client::read_line(std::chrono::milliseconds timeout) {
  std::array<char, 65536> chunk{};
  std::size_t searched = 0;
  while (true) {
    if (const std::size_t end = buffer_.find('\n', searched); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    searched = buffer_.size();
    if (searched > kLineLimit) {
      return fail("trireme's answer is too long");
    }
    const auto ready = wait(fd_.get(), POLLIN, timeout, reader_);
    if (!ready) {
      return tl::unexpected(ready.error());
    }
    if (*ready == Waited::silent) {
      return silent();
    }
    if (*ready == Waited::reader_gone) {
      return std::nullopt;
    }
    const ssize_t count = ::recv(fd_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno == ECONNRESET)) {
      return fail("trireme hung up without an answer",
                  "it may have been stopped: see 'systemctl status trireme'");
    }
    if (count < 0 && errno != EINTR && errno != EAGAIN) {
      return fail_errno("cannot read trireme's answer");
    }
    buffer_.append(chunk.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  }
}

Result<nlohmann::json> Client::call(const std::string& method, const nlohmann::json& params,
                                    std::chrono::milliseconds timeout,
                                    const std::function<bool(const nlohmann::json&)>& on_event) {
  const nlohmann::json request = {{"method", method}, {"params", params}};
  if (auto status = send(
          request.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n', timeout);
      !status) {
    return tl::unexpected(status.error());
  }
  while (true) {
    const auto line = read_line(timeout);
    if (!line) {
      return tl::unexpected(line.error());
    }
    if (!*line) {
      return nlohmann::json();
    }
    auto answer = nlohmann::json::parse(**line, nullptr, false);
    if (!answer.is_object()) {
      return fail("trireme's answer is not a JSON object",
                  "is another program listening on this socket?");
    }
    if (const auto result = answer.find("result"); result != answer.end()) {
      return std::move(*result);
    }
    if (const auto error = answer.find("error"); error != answer.end() && error->is_object()) {
      return tl::unexpected(
          Error{.message = error->value("message", "trireme answered with an error"),
                .hint = error->value("hint", ""),
                .usage = error->value("kind", "") == "usage"});
    }
    if (const auto event = answer.find("event");
        event != answer.end() && on_event && !on_event(*event)) {
      return nlohmann::json();
    }
  }
}

}  // namespace trireme::control
