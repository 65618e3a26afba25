// SPDX-License-Identifier: Apache-2.0
// [metrics] listen: what an HTTP client gets, and an address that another program uses.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "../../src/daemon/metrics_service.hpp"
#include "trireme/base/fd.hpp"

namespace trireme::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class Metrics : public ::testing::Test {
 protected:
  void SetUp() override {
    // A different address of 127.0.0.0/8 for each process, because tests run in parallel.
    const auto pid = static_cast<unsigned>(::getpid());
    address_ = policy::SocketAddress::parse(fmt::format("127.{}.{}.{}:9464", 64 + (pid >> 16U) % 64,
                                                        (pid >> 8U) % 256, pid % 256))
                   .value();
    ASSERT_GE(sd_event_new(&loop_), 0);
    level_ = spdlog::get_level();
    spdlog::set_level(spdlog::level::off);
  }
  void TearDown() override {
    sd_event_unref(loop_);
    spdlog::set_level(level_);
  }
  std::function<std::string()> text() {
    return [this] { return fmt::format("made {}\n", ++made_); };
  }

  [[nodiscard]] sockaddr_in name() const {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(address_.port);
    std::copy_n(address_.address.bytes.begin(), 4, reinterpret_cast<std::uint8_t*>(&name.sin_addr));
    return name;
  }
  /// Sends the request from another thread while the event loop runs in this one. Returns
  /// everything that the server sent until it closed the connection.
  std::string ask(const std::string& request) {
    std::string answer;
    std::atomic<bool> is_done = false;
    std::thread client([&] {
      const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const timeval patience{.tv_sec = 10, .tv_usec = 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      const sockaddr_in to = name();
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
        answer = "<refused>";
      } else {
        std::ignore = ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
        char chunk[4096];
        for (ssize_t count = 0; (count = ::recv(fd.get(), chunk, sizeof chunk, 0)) > 0;) {
          answer.append(chunk, static_cast<std::size_t>(count));
        }
      }
      is_done = true;
    });
    while (!is_done) {
      sd_event_run(loop_, 10'000);
    }
    client.join();
    return answer;
  }
  std::string get(const std::string& path, const std::string& method = "GET") {
    return ask(method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }

  policy::SocketAddress address_;
  sd_event* loop_ = nullptr;
  int made_ = 0;

 private:
  spdlog::level::level_enum level_ = spdlog::level::info;
};

TEST_F(Metrics, ServesOnePageAndSaysWhatItIs) {
  const auto listener = MetricsListener::open(loop_, address_, text());
  ASSERT_TRUE(listener) << listener.error().text();
  const std::string page = get("/metrics");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(page, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(page, HasSubstr("\r\n\r\nmade 1\n"));
  const std::string head = get("/metrics", "HEAD");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(head, Not(HasSubstr("made")));
}

TEST_F(Metrics, RefusesOtherPathsAndVerbs) {
  const auto listener = MetricsListener::open(loop_, address_, text());
  ASSERT_TRUE(listener) << listener.error().text();
  for (const char* path : {"/", "/metrics/", "/metrics/../metrics", "/etc/passwd"}) {
    EXPECT_THAT(get(path), StartsWith("HTTP/1.1 404 ")) << path;
  }
  for (const char* method : {"DELETE", "PUT", "OPTIONS"}) {
    const std::string answer = get("/metrics", method);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 ")) << method;
    EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD\r\n"));
  }
  EXPECT_EQ(made_, 0) << "no page was built for them";
}

TEST_F(Metrics, BytesThatAreNoRequestEndThatConnectionOnly) {
  const auto listener = MetricsListener::open(loop_, address_, text());
  ASSERT_TRUE(listener) << listener.error().text();
  for (const std::string& bytes :
       {std::string("\0\xff\r\n\r\n", 6), "GET /metrics HTTP/1.1\r\nX: " + std::string(20'000, 'x'),
        std::string("GET\r\n\r\n")}) {
    EXPECT_THAT(ask(bytes), Not(StartsWith("HTTP/1.1 200 ")));
  }
  EXPECT_THAT(get("/metrics"), HasSubstr("made 1\n"));
}

TEST_F(Metrics, APageIsMadeOnceASecondAtMost) {
  const auto listener = MetricsListener::open(loop_, address_, text());
  ASSERT_TRUE(listener) << listener.error().text();
  const auto began = std::chrono::steady_clock::now();
  int asked = 0;
  while (made_ < 2 && asked < 100'000) {
    EXPECT_THAT(get("/metrics"), HasSubstr("made"));
    ++asked;
  }
  EXPECT_EQ(made_, 2);
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(900));
}

TEST_F(Metrics, AnAddressOfAnotherProgramIsAProblemUntilAnotherIsSet) {
  const Fd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;  // connections of an earlier test can still be in TIME_WAIT
  ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  const sockaddr_in taken = name();
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&taken), sizeof taken), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);

  Problems problems;
  const auto service = MetricsService::create(loop_, problems, text());
  ASSERT_TRUE(service) << service.error().text();
  (*service)->listen(address_);
  EXPECT_THAT(problems.lines(),
              ElementsAre(HasSubstr("metrics: cannot listen on " + address_.text())));

  address_.port = 9465;
  (*service)->listen(address_);
  EXPECT_THAT(problems.lines(), IsEmpty());
  EXPECT_THAT(get("/metrics"), HasSubstr("made 1\n"));
  (*service)->listen(std::nullopt);
  EXPECT_EQ(get("/metrics"), "<refused>");
  EXPECT_THAT(problems.lines(), IsEmpty());
}

}  // namespace
}  // namespace trireme::daemon
