// SPDX-License-Identifier: Apache-2.0
#include "metrics_listener.hpp"

#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "trireme/base/fd.hpp"

namespace trireme::daemon {
namespace {

/// The same as for the flow log: after everything else.
constexpr std::int64_t kMetricsPriority = event::kNormal + 10;
constexpr unsigned kConnections = 8;
constexpr std::chrono::seconds kLongest(5);  // limit for a connection, even if it is active
constexpr std::size_t kRequest = 8192;       // memory for a client's request, in bytes
constexpr std::chrono::seconds kFresh(1);    // how long a page is served before it is rebuilt
constexpr const char* kFormat = "text/plain; version=0.0.4; charset=utf-8";

Result<Fd> listen_on(const policy::SocketAddress& address) {
  const bool v4 = address.address.family == policy::Address::Family::v4;
  Fd fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(address.port);
  std::memcpy(&six.sin6_addr, address.address.bytes.data(), sizeof six.sin6_addr);
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(address.port);
  std::memcpy(&four.sin_addr, address.address.bytes.data(), sizeof four.sin_addr);
  const auto* name =
      v4 ? reinterpret_cast<const sockaddr*>(&four) : reinterpret_cast<const sockaddr*>(&six);
  const int on = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      // The daemon can start before the host has this address.
      ::setsockopt(fd.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on) != 0 ||
      ::bind(fd.get(), name, v4 ? sizeof four : sizeof six) != 0 ||
      ::listen(fd.get(), kConnections) != 0) {
    return fail_errno("cannot listen on " + address.text());
  }
  return fd;
}

MHD_Result answer(MHD_Connection* connection, unsigned status, std::string_view text,
                  const char* type, const char* allow = nullptr) {
  MHD_Response* response =
      MHD_create_response_from_buffer(text.size(), const_cast<char*>(text.data()),
                                      MHD_RESPMEM_MUST_COPY);  // copied, never modified
  if (response == nullptr) {
    return MHD_NO;
  }
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  if (allow != nullptr) {
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
  }
  const MHD_Result queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace

struct MetricsCallbacks {
  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* path,
                               const char* method, const char* /*version*/, const char* /*upload*/,
                               std::size_t* /*upload_size*/, void** /*request*/) {
    const std::string_view verb(method);
    if (verb != MHD_HTTP_METHOD_GET && verb != MHD_HTTP_METHOD_HEAD) {
      return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n", "text/plain",
                    "GET, HEAD");
    }
    if (std::string_view(path) != "/metrics") {
      return answer(connection, MHD_HTTP_NOT_FOUND, "trireme's metrics are at /metrics\n",
                    "text/plain");
    }
    return answer(connection, MHD_HTTP_OK, static_cast<MetricsListener*>(self)->fresh_text(),
                  kFormat);
  }

  static void on_connection(void* self, MHD_Connection* connection, void** /*context*/,
                            MHD_ConnectionNotificationCode what) {
    auto& listener = *static_cast<MetricsListener*>(self);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
      listener.began_[connection] = listener.now();
    } else {
      listener.began_.erase(connection);
    }
  }
};

Result<std::unique_ptr<MetricsListener>> MetricsListener::open(sd_event* loop,
                                                               const policy::SocketAddress& address,
                                                               std::function<std::string()> text) {
  std::unique_ptr<MetricsListener> listener(new MetricsListener(loop, std::move(text)));
  if (Status started = listener->start(address); !started) {
    return tl::unexpected(started.error());
  }
  return listener;
}

Status MetricsListener::start(const policy::SocketAddress& address) {
  auto socket = listen_on(address);
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  const unsigned flags =
      MHD_USE_EPOLL |
      (address.address.family == policy::Address::Family::v6 ? unsigned{MHD_USE_IPv6} : 0U);
  server_ = MHD_start_daemon(
      flags, address.port, nullptr, nullptr, &MetricsCallbacks::on_request, this,  //
      MHD_OPTION_LISTEN_SOCKET, socket->get(),                                     //
      MHD_OPTION_CONNECTION_LIMIT, kConnections,                                   //
      MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(kLongest.count()),      //
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, kRequest,                                //
      MHD_OPTION_NOTIFY_CONNECTION, &MetricsCallbacks::on_connection, this,        //
      MHD_OPTION_END);
  if (server_ == nullptr) {
    return fail("cannot serve HTTP on " + address.text());
  }
  std::ignore = socket->release();  // the server closes it
  const MHD_DaemonInfo* info = MHD_get_daemon_info(server_, MHD_DAEMON_INFO_EPOLL_FD);
  if (info == nullptr) {
    return fail("cannot serve HTTP on " + address.text());
  }
  Status opened = readable_.open(
      loop_, info->epoll_fd, EPOLLIN, [this](std::uint32_t /*events*/) { run(); },
      kMetricsPriority);
  opened = opened ? timer_.open(
                        loop_, [this] { run(); }, kMetricsPriority)
                  : opened;
  if (opened) {
    timer_.arm({});
  }
  return opened;
}

MetricsListener::~MetricsListener() {
  readable_.close();
  if (server_ != nullptr) {
    MHD_stop_daemon(server_);
  }
}

void MetricsListener::run() {
  end_old_connections();
  const bool was_full = began_.size() >= kConnections;
  MHD_run(server_);
  if (was_full && began_.size() < kConnections) {
    MHD_run(server_);  // adds the listening socket to its epoll again only at the start of a run
  }
  constexpr std::chrono::microseconds kNever = std::chrono::microseconds::max();
  std::chrono::microseconds wait = kNever;
  MHD_UNSIGNED_LONG_LONG milliseconds = 0;
  if (MHD_get_timeout(server_, &milliseconds) == MHD_YES) {
    wait = std::chrono::milliseconds(milliseconds);
  }
  for (const auto& [connection, began] : began_) {
    const auto end = began + kLongest;
    wait = std::min(wait, end > now() ? end - now() : std::chrono::microseconds(kFresh));
  }
  if (wait == kNever) {
    timer_.disarm();
  } else {
    timer_.arm(wait);
  }
}

/// The library's timeout only ends silent connections. Without this, a client that sends a byte now
/// and then would keep its connection.
void MetricsListener::end_old_connections() {
  for (const auto& [connection, began] : began_) {
    if (now() < began + kLongest) {
      continue;
    }
    if (const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        info != nullptr) {
      ::shutdown(info->connect_fd, SHUT_RDWR);
    }
  }
}

const std::string& MetricsListener::fresh_text() {
  if (served_.empty() || now() >= made_ + kFresh) {
    served_ = text_();
    made_ = now();
  }
  return served_;
}

}  // namespace trireme::daemon
