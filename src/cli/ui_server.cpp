// SPDX-License-Identifier: Apache-2.0
#include "ui_server.hpp"

#include <fmt/format.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "trireme/kernel/sockets.hpp"

namespace trireme::cli {
namespace {

constexpr unsigned kMostConnections = 24;
constexpr unsigned kIdleConnection = 30;  // seconds; longer than UiRoutes waits for updates
constexpr std::chrono::seconds kLastAnswers(1);
constexpr int kFreePorts = 20;               // that are tried
constexpr std::size_t kMostMemory = 32'768;  // of a connection, in bytes: headers and buffers

sockaddr_in address_of(std::uint16_t port) {
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(port);
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return four;
}

/// Without SO_REUSEADDR two programs could not share the port either, but it could not be used
/// again for a minute after a stop.
template <typename Address>
Result<Fd> listen_at(Address address) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      (address.family() == AF_INET6 &&
       ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.raw), sizeof address.raw) != 0 ||
      ::listen(fd.get(), static_cast<int>(kMostConnections)) != 0) {
    return fail_errno("cannot listen on loopback");
  }
  return fd;
}

struct Loopback4 {
  sockaddr_in raw;
  [[nodiscard]] static int family() { return AF_INET; }
};
struct Loopback6 {
  sockaddr_in6 raw;
  [[nodiscard]] static int family() { return AF_INET6; }
};

policy::Address loopback_address(bool is_v4) {
  return policy::Address::parse(is_v4 ? "127.0.0.1" : "::1").value_or(policy::Address{});
}

/// The client's socket of a connection: the kernel knows who made it.
kernel::InetSocket client_socket(const sockaddr* from, std::uint16_t port) {
  const bool is_v4 = from->sa_family == AF_INET;
  kernel::InetSocket socket;
  socket.local = loopback_address(is_v4);
  if (is_v4) {
    sockaddr_in four{};
    std::memcpy(&four, from, sizeof four);
    // Any address of 127.0.0.0/8 can be the client's.
    std::memcpy(socket.local.bytes.data(), &four.sin_addr, sizeof four.sin_addr);
    socket.local_port = ntohs(four.sin_port);
  } else {
    sockaddr_in6 six{};
    std::memcpy(&six, from, sizeof six);
    std::memcpy(socket.local.bytes.data(), &six.sin6_addr, sizeof six.sin6_addr);
    socket.local_port = ntohs(six.sin6_port);
  }
  socket.remote = loopback_address(is_v4);
  socket.remote_port = port;
  return socket;
}

std::string header_of(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? "" : value;
}

UiRequest request_of(MHD_Connection* connection, const char* path, const char* method) {
  UiRequest request;
  request.method = method;
  request.path = path;
  request.host = header_of(connection, MHD_HTTP_HEADER_HOST);
  request.origin = header_of(connection, MHD_HTTP_HEADER_ORIGIN);
  request.fetch_site = header_of(connection, "Sec-Fetch-Site");
  request.session = header_of(connection, "X-Trireme-Session");
  const std::string length = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
  request.has_body = (!length.empty() && length != "0") ||
                     !header_of(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING).empty();
  for (const char* name : {"token", "since", "id"}) {
    const char* value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
    if (value != nullptr) {
      request.query[name] = value;
    }
  }
  return request;
}

}  // namespace

struct UiCallbacks {
  static MHD_Result on_connection(void* self, const sockaddr* from, socklen_t /*size*/) {
    auto& server = *static_cast<UiServer*>(self);
    auto table = kernel::SocketTable::open();
    const auto owner =
        table ? table->owner_of(client_socket(from, server.port_)) : tl::unexpected(table.error());
    // A client that is not known gets nothing.
    if (!owner || !*owner) {
      return MHD_NO;
    }
    if (std::ranges::find(server.users_, **owner) == server.users_.end()) {
      server.on_other_(**owner);
      return MHD_NO;
    }
    return MHD_YES;
  }

  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* path,
                               const char* method, const char* /*version*/, const char* /*upload*/,
                               std::size_t* /*upload_size*/, void** request) {
    auto& server = *static_cast<UiServer*>(self);
    if (*request == nullptr) {
      *request = self;  // counted
      const std::lock_guard lock(server.mutex_);
      server.requests_++;
    }
    const UiAnswer answer = server.routes_->answer(request_of(connection, path, method));
    // libmicrohttpd copies the body and never modifies it.
    MHD_Response* response = MHD_create_response_from_buffer(
        answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) {
      return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
    for (const auto& [name, value] : answer.headers) {
      MHD_add_response_header(response, name, value.c_str());
    }
    const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return queued;
  }

  static void on_end(void* self, MHD_Connection* /*connection*/, void** request,
                     MHD_RequestTerminationCode /*reason*/) {
    auto& server = *static_cast<UiServer*>(self);
    if (*request == nullptr) {
      return;
    }
    const std::lock_guard lock(server.mutex_);
    server.requests_--;
    server.answered_.notify_all();
  }
};

Result<std::unique_ptr<UiServer>> UiServer::open(std::uint16_t port) {
  auto server = open_both(port);
  // A port that is free on 127.0.0.1 can be in use on ::1.
  for (int i = 1; i < kFreePorts && port == 0 && !server && server.error().code == EADDRINUSE;
       ++i) {
    server = open_both(port);
  }
  if (!server && server.error().code == EADDRINUSE) {
    server.error().hint = "choose another --port, or none: any free port is then used";
  }
  return server;
}

Result<std::unique_ptr<UiServer>> UiServer::open_both(std::uint16_t port) {
  std::unique_ptr<UiServer> server(new UiServer);
  auto four = listen_at(Loopback4{address_of(port)});
  if (!four) {
    return tl::unexpected(four.error());
  }
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(four->get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return fail_errno("cannot read the port");
  }
  server->four_ = std::move(*four);
  server->port_ = ntohs(bound.sin_port);
  sockaddr_in6 local{};
  local.sin6_family = AF_INET6;
  local.sin6_port = htons(server->port_);
  local.sin6_addr = in6addr_loopback;
  auto six = listen_at(Loopback6{local});
  if (six) {
    server->six_ = std::move(*six);
  } else if (six.error().code != EADDRNOTAVAIL && six.error().code != EAFNOSUPPORT) {
    // Not a host without ::1. If another program has the port there, a browser that takes
    // "localhost" for ::1 would send it what is meant for this one.
    return tl::unexpected(six.error());
  }
  return server;
}

Status UiServer::serve(UiRoutes& routes, std::vector<std::uint32_t> users,
                       std::function<void(std::uint32_t)> on_other) {
  routes_ = &routes;
  users_ = std::move(users);
  on_other_ = std::move(on_other);
  for (Fd* socket : {&four_, &six_}) {
    if (!socket->valid()) {
      continue;
    }
    const unsigned flags = unsigned{MHD_USE_INTERNAL_POLLING_THREAD} |
                           unsigned{MHD_USE_THREAD_PER_CONNECTION} | unsigned{MHD_USE_POLL} |
                           (socket == &six_ ? unsigned{MHD_USE_IPv6} : 0U);
    MHD_Daemon* daemon = MHD_start_daemon(flags, port_, &UiCallbacks::on_connection, this,
                                          &UiCallbacks::on_request, this,                   //
                                          MHD_OPTION_LISTEN_SOCKET, socket->get(),          //
                                          MHD_OPTION_CONNECTION_LIMIT, kMostConnections,    //
                                          MHD_OPTION_CONNECTION_TIMEOUT, kIdleConnection,   //
                                          MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMostMemory,  //
                                          MHD_OPTION_NOTIFY_COMPLETED, &UiCallbacks::on_end,
                                          this,  //
                                          MHD_OPTION_END);
    if (daemon == nullptr) {
      stop();
      return fail(fmt::format("cannot serve HTTP on port {}", port_));
    }
    std::ignore = socket->release();  // the server closes it
    daemons_.push_back(daemon);
  }
  return {};
}

void UiServer::stop() {
  {
    std::unique_lock lock(mutex_);
    answered_.wait_for(lock, kLastAnswers, [this] { return requests_ == 0; });
  }
  for (MHD_Daemon* daemon : std::exchange(daemons_, {})) {
    MHD_stop_daemon(daemon);
  }
}

UiServer::~UiServer() {
  stop();
}

}  // namespace trireme::cli
