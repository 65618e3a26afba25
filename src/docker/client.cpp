// SPDX-License-Identifier: Apache-2.0
#include "client.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "transfer.hpp"

namespace trireme::docker {
namespace {

/// Requests at the same time. Docker answers the inspection of a starting container only after the
/// start, so slow containers must not delay other requests.
constexpr std::size_t kParallel = 32;
constexpr long kTimeoutMs = 20'000;

template <typename Value>
bool set(CURL* easy, CURLoption option, Value value) {
  return curl_easy_setopt(easy, option, value) == CURLE_OK;
}

}  // namespace

std::string url_encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') ||
                            std::string_view("-._~").find(c) != std::string_view::npos;
    if (unreserved) {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += {'%', kDigits[byte >> 4U], kDigits[byte & 15U]};
    }
  }
  return encoded;
}

Client::Client(sd_event* loop, std::string socket)
    : loop_(loop), socket_(std::move(socket)), alive_(std::make_shared<bool>(true)) {}

Result<std::unique_ptr<Client>> Client::create(sd_event* loop, std::string socket) {
  // Without this call, libcurl initializes everything at the first handle, including TLS, which a
  // Unix socket does not need.
  static const CURLcode global = curl_global_init(CURL_GLOBAL_NOTHING);
  if (global != CURLE_OK) {
    return fail(std::string("libcurl: ") + curl_easy_strerror(global));
  }
  std::unique_ptr<Client> client(new Client(loop, std::move(socket)));
  if (auto opened = client->open(); !opened) {
    return tl::unexpected(opened.error());
  }
  return client;
}

Status Client::open() {
  multi_ = curl_multi_init();
  if (multi_ == nullptr ||
      curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
      curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this) != CURLM_OK ||
      curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
      curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this) != CURLM_OK ||
      curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 4L) != CURLM_OK) {
    return fail("libcurl: cannot create a multi handle");
  }
  return timer_.open(
      loop_, [this] { act(CURL_SOCKET_TIMEOUT, 0); }, event::kNormal, event::kExact);
}

Client::~Client() {
  alive_.reset();
  for (const auto& [easy, transfer] : active_) {
    curl_multi_remove_handle(multi_, easy);
  }
  active_.clear();
  if (multi_ != nullptr) {
    curl_multi_cleanup(multi_);  // closes idle connections, and calls on_socket for them
  }
}

void Client::get(const std::string& path, std::size_t limit, Done done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->path = path;
  transfer->limit = limit;
  transfer->done = std::move(done);
  if (active_.size() < kParallel) {
    start(std::move(transfer));
  } else {
    waiting_.push_back(std::move(transfer));
  }
}

void Client::stream(const std::string& path, std::size_t line_limit, Stream handlers) {
  auto transfer = std::make_unique<Transfer>();
  transfer->path = path;
  transfer->limit = line_limit;
  transfer->stream = std::move(handlers);
  start(std::move(transfer));
}

bool Client::prepare(Transfer& transfer) const {
  CURL* easy = transfer.easy;
  // Without a version in the path, the engine uses its newest API. No fixed version works
  // everywhere: Docker 20.10 supports up to 1.41 and Docker 29 at least 1.44. The members read here
  // are the same in all of them and in Podman.
  return set(easy, CURLOPT_URL, ("http://docker" + transfer.path).c_str()) &&
         set(easy, CURLOPT_UNIX_SOCKET_PATH, socket_.c_str()) &&
         set(easy, CURLOPT_PROTOCOLS_STR, "http") && set(easy, CURLOPT_PROXY, "") &&
         set(easy, CURLOPT_NOSIGNAL, 1L) && set(easy, CURLOPT_FOLLOWLOCATION, 0L) &&
         set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1)) &&
         set(easy, CURLOPT_USERAGENT, "trireme/" TRIREME_VERSION) &&
         set(easy, CURLOPT_WRITEFUNCTION, Transfer::on_body) &&
         set(easy, CURLOPT_WRITEDATA, &transfer) &&
         set(easy, CURLOPT_HEADERFUNCTION, Transfer::on_header) &&
         set(easy, CURLOPT_HEADERDATA, &transfer) &&
         set(easy, CURLOPT_ERRORBUFFER, transfer.error.data()) &&
         // A stream has its own connection and no time limit.
         (!transfer.is_stream() || set(easy, CURLOPT_FRESH_CONNECT, 1L)) &&
         set(easy, CURLOPT_TIMEOUT_MS, transfer.is_stream() ? 0L : kTimeoutMs);
}

void Client::start(std::unique_ptr<Transfer> transfer) {
  transfer->easy = curl_easy_init();
  CURL* easy = transfer->easy;
  Transfer& started = *active_.insert_or_assign(easy, std::move(transfer)).first->second;
  if (easy == nullptr || !prepare(started) || curl_multi_add_handle(multi_, easy) != CURLM_OK) {
    const auto failed = std::move(active_.extract(easy).mapped());
    failed->end(CURLE_FAILED_INIT);
  }
}

void Client::start_waiting() {
  const std::weak_ptr<bool> alive = alive_;
  while (!alive.expired() && !waiting_.empty() && active_.size() < kParallel) {
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    start(std::move(next));
  }
}

void Client::act(curl_socket_t fd, int events) {
  const std::weak_ptr<bool> alive = alive_;
  int running = 0;
  curl_multi_socket_action(multi_, fd, events, &running);
  // Handlers run here, not in libcurl's callbacks, because no request can be started from those.
  if (deliver_streams(alive)) {
    finish_ended(alive);
  }
  if (!alive.expired()) {
    start_waiting();
  }
}

bool Client::deliver_streams(const std::weak_ptr<bool>& alive) {
  std::vector<CURL*> streams;
  for (const auto& [easy, transfer] : active_) {
    if (transfer->is_stream()) {
      streams.push_back(easy);
    }
  }
  for (CURL* easy : streams) {
    const auto found = active_.find(easy);
    if (found == active_.end()) {
      continue;
    }
    // A handler may destroy the client and with it the transfer, so only copies are used here.
    const auto [opened, lines, handlers] = found->second->take();
    if (opened) {
      handlers.opened(*opened);
    }
    for (const std::string& line : lines) {
      if (alive.expired()) {
        return false;
      }
      handlers.line(line);
    }
    if (alive.expired()) {
      return false;
    }
  }
  return true;
}

void Client::finish_ended(const std::weak_ptr<bool>& alive) {
  int left = 0;
  std::vector<std::pair<std::unique_ptr<Transfer>, CURLcode>> ended;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) {
      continue;
    }
    const CURLcode code = message->data.result;  // removing the handle invalidates the message
    CURL* easy = message->easy_handle;
    auto node = active_.extract(easy);
    curl_multi_remove_handle(multi_, easy);
    if (!node.empty()) {
      ended.emplace_back(std::move(node.mapped()), code);
    }
  }
  for (const auto& [transfer, code] : ended) {
    if (alive.expired()) {
      return;
    }
    transfer->end(code);
  }
}

int Client::on_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
  static_cast<Client*>(self)->watch_socket(fd, what);
  return 0;
}

void Client::watch_socket(curl_socket_t fd, int what) {
  const auto found = watched_.find(fd);
  if (what == CURL_POLL_REMOVE) {
    if (found != watched_.end()) {
      watched_.erase(found);
    }
    return;
  }
  const std::uint32_t events = (what != CURL_POLL_OUT ? static_cast<std::uint32_t>(EPOLLIN) : 0U) |
                               (what != CURL_POLL_IN ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
  if (found != watched_.end()) {
    // On failure see below.
    std::ignore = found->second.set_events(events);
    return;
  }
  // If this fails, the transfer ends by its time limit.
  event::Io watch;
  if (watch.open(loop_, fd, events, [this, fd](std::uint32_t ready) { act_on(fd, ready); })) {
    watched_[fd] = std::move(watch);
  }
}

int Client::on_timer(CURLM*, long milliseconds, void* self) {
  static_cast<Client*>(self)->set_timer(milliseconds);
  return 0;
}

void Client::set_timer(long milliseconds) {
  if (milliseconds < 0) {
    timer_.disarm();
    return;
  }
  timer_.arm(std::chrono::milliseconds(milliseconds));
}

void Client::act_on(curl_socket_t fd, std::uint32_t events) {
  const unsigned action = ((events & EPOLLIN) != 0 ? unsigned{CURL_CSELECT_IN} : 0U) |
                          ((events & EPOLLOUT) != 0 ? unsigned{CURL_CSELECT_OUT} : 0U) |
                          ((events & (EPOLLERR | EPOLLHUP)) != 0 ? unsigned{CURL_CSELECT_ERR} : 0U);
  act(fd, static_cast<int>(action));
}

}  // namespace trireme::docker
