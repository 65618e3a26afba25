// SPDX-License-Identifier: Apache-2.0
#include "connection.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "trireme/control/methods.hpp"

namespace trireme::control {
namespace {

/// Bytes of a long answer that are made in one turn of the event loop.
constexpr std::size_t kPiece = 256U << 10U;

/// Replaces invalid UTF-8: labels of containers can have any bytes, but JSON cannot.
std::string text(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// A line of an answer: its content under "result", "error" or "event".
nlohmann::json envelope(const char* key, const nlohmann::json& content) {
  return {{key, content}, {"version", kProtocolVersion}};
}

}  // namespace

Connection::Connection(Fd fd, Caller caller, const Limits& limits, Callbacks callbacks)
    : fd_(std::move(fd)),
      caller_(std::move(caller)),
      limits_(limits),
      callbacks_(std::move(callbacks)) {}

Status Connection::start(sd_event* loop) {
  for (Status opened :
       {io_.open(loop, fd_.get(), EPOLLIN, [this](std::uint32_t events) { talk(events); }),
        timer_.open(
            loop, [this] { shared_from_this()->close(); }, event::kNormal, limits_.stall / 10)}) {
    if (!opened) {
      return opened;
    }
  }
  timer_.arm(limits_.stall);
  armed_ = true;
  return {};
}

void Connection::talk(std::uint32_t events) {
  const auto connection = shared_from_this();
  // EPOLLHUP means that both directions are closed, so no answer can be read. A caller that has
  // only closed its sending direction still gets its answers.
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    close();
    return;
  }
  if ((events & EPOLLOUT) != 0) {
    flush();
    refill();
  }
  if ((events & EPOLLIN) != 0) {
    receive();
  }
  process();
}

void Connection::receive() {
  std::array<char, 65536> chunk{};
  const ssize_t count = ::recv(fd_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
  if (count > 0) {
    input_.append(chunk.data(), static_cast<std::size_t>(count));
  } else if (count == 0) {
    ended_ = true;
  } else if (errno != EAGAIN && errno != EINTR) {
    drop_soon();
  }
}

/// Starts the next request: one per turn of the event loop, and only after the caller has read the
/// last answer. So a caller that sends many requests at once does not delay others, and no answers
/// are made that are not read.
void Connection::process() {
  if (processing_) {
    return;
  }
  processing_ = true;
  if (alive_ && !busy_ && output_.empty()) {
    input_.erase(0, input_.find_first_not_of('\n'));  // ignore empty lines
    const std::size_t end = input_.find('\n');
    if (std::min(end, input_.size()) > limits_.line_bytes) {
      refuse("a request is longer than " + std::to_string(limits_.line_bytes) + " bytes");
    } else if (end != std::string::npos) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      callbacks_.request(*this, line);
    }
  }
  processing_ = false;
  waiting_ = input_.find('\n') != std::string::npos;
  if (alive_ && ended_ && !waiting_ && !busy_ && output_.empty()) {
    drop_soon();
  }
  watch();
  arm(false);
}

void Connection::refuse(const std::string& message) {
  input_.clear();
  ended_ = true;
  append(envelope("error", {{"message", message}, {"hint", ""}}));
}

void Connection::expect(std::weak_ptr<Reply::State> pending) {
  pending_ = std::move(pending);
  busy_ = true;
}

void Connection::stream(const nlohmann::json& line) {
  if (!alive_) {
    return;
  }
  if (output_.size() - written_ > limits_.backlog_bytes) {
    drop_soon();
    return;
  }
  append(line);
  watch();
  arm(false);
}

void Connection::finish(const nlohmann::json& line) {
  busy_ = false;
  pending_.reset();
  if (!alive_) {
    return;
  }
  append(line);
  process();
}

void Connection::finish_in_pieces(More more) {
  more_ = std::move(more);
  refill();
  watch();
  process();
}

void Connection::append(const nlohmann::json& line) {
  output_ += text(line);
  output_ += '\n';
  flush();
}

/// Makes more pieces of the current answer when the caller has read some.
void Connection::refill() {
  if (!more_ || !alive_) {
    return;
  }
  bool follow = true;
  while (follow && output_.size() - written_ < kPiece) {
    follow = more_(output_);
  }
  if (!follow) {
    more_ = {};
    busy_ = false;
    pending_.reset();
  }
  flush();
}

void Connection::flush() {
  while (alive_ && written_ < output_.size()) {
    const ssize_t count = ::send(fd_.get(), output_.data() + written_, output_.size() - written_,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno != EAGAIN) {
        drop_soon();
      }
      break;
    }
    written_ += static_cast<std::size_t>(count);
    arm(true);
  }
  if (written_ == output_.size()) {
    output_.clear();
    written_ = 0;
  } else if (written_ > (1U << 20U)) {
    output_.erase(0, written_);
    written_ = 0;
  }
}

/// Sets the events to wait for. Reads while no complete request waits and there is room for one.
/// Waits for writability while there is output, and while a request waits: it is started when the
/// socket is writable, in a later turn of the event loop.
void Connection::watch() {
  if (!io_.is_open()) {
    return;
  }
  std::uint32_t events = 0;
  if (!ended_ && !waiting_ && input_.size() <= limits_.line_bytes) {
    events |= EPOLLIN;
  }
  if (!output_.empty() || more_ || (waiting_ && !busy_)) {
    events |= EPOLLOUT;
  }
  if (!io_.set_events(events)) {
    drop_soon();
  }
}

/// Runs the stall timer while the daemon waits for the caller: for a complete request, or for the
/// caller to read its answer. The timer starts when the wait begins and restarts after each
/// successful write. Bytes of an incomplete request do not restart it, so that a caller cannot hold
/// a connection by sending them slowly.
void Connection::arm(bool progress) {
  if (!timer_.is_open() || !alive_) {
    return;
  }
  const bool owes = !busy_ || !output_.empty();
  if (owes && (!armed_ || progress)) {
    timer_.arm(limits_.stall);
  } else if (!owes) {
    timer_.disarm();
  }
  armed_ = owes;
}

void Connection::drop_soon() {
  alive_ = false;
  if (io_.is_open()) {
    io_.pause();
  }
  if (timer_.is_open()) {
    timer_.arm({});
  }
}

void Connection::close() {
  alive_ = false;
  io_.close();
  timer_.close();
  fd_.reset();
  busy_ = false;
  more_ = {};
  if (const auto pending = pending_.lock()) {
    pending->hang_up();
  }
  callbacks_.gone(*this);
}

Reply::State::~State() {
  if (!answered) {
    finish(envelope("error", {{"message", "the daemon gave no answer"},
                              {"hint", "this is a bug in trireme; its log may show more"}}));
  }
}

void Reply::State::finish(const nlohmann::json& line) {
  if (answered) {
    return;
  }
  answered = true;
  on_close = {};
  if (const auto open = connection.lock()) {
    open->finish(line);
  }
}

void Reply::State::finish_in_pieces(Connection::More more) {
  if (answered) {
    return;
  }
  answered = true;
  on_close = {};
  if (const auto open = connection.lock()) {
    open->finish_in_pieces(std::move(more));
  }
}

void Reply::State::hang_up() {
  connection.reset();
  if (const auto function = std::exchange(on_close, {})) {
    function();
  }
}

void Reply::result(const nlohmann::json& value) const {
  state_->finish(envelope("result", value));
}

Reply::Line Reply::make_line(const nlohmann::json& value) {
  return std::make_shared<const std::string>(text(envelope("result", value)) + '\n');
}

void Reply::result_line(Line line) const {
  state_->finish_in_pieces(
      [line = std::move(line), sent = std::size_t{0}](std::string& output) mutable {
        output.append(*line, sent, kPiece);
        sent += std::min(kPiece, line->size() - sent);
        return sent < line->size();
      });
}

void Reply::error(const Error& error) const {
  nlohmann::json object = {{"message", error.message}, {"hint", error.hint}};
  if (error.usage) {
    object["kind"] = "usage";
  }
  state_->finish(envelope("error", object));
}

void Reply::event(const nlohmann::json& value) const {
  const auto connection = state_->connection.lock();
  if (connection && !state_->answered) {
    connection->stream(envelope("event", value));
  }
}

void Reply::list(Next next) const {
  state_->finish_in_pieces(
      [next = std::move(next), before = R"({"result":[)"](std::string& output) mutable {
        output += std::exchange(before, ",");
        const auto value = next();
        if (value) {
          output += text(*value);
        } else {
          output.back() == ',' ? output.pop_back() : void();
          output += fmt::format("],\"version\":{}}}\n", kProtocolVersion);
        }
        return value.has_value();
      });
}

void Reply::list_events(Next next, nlohmann::json result) const {
  state_->finish_in_pieces(
      [next = std::move(next), result = std::move(result)](std::string& output) {
        const auto value = next();
        output += text(value ? envelope("event", *value) : envelope("result", result));
        output += '\n';
        return value.has_value();
      });
}

bool Reply::open() const {
  const auto connection = state_->connection.lock();
  return connection && connection->alive() && !state_->answered;
}

void Reply::on_close(std::function<void()> function) const {
  if (state_->answered) {
    return;
  }
  if (state_->connection.expired()) {
    function();
    return;
  }
  state_->on_close = std::move(function);
}

}  // namespace trireme::control
