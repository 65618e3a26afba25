// SPDX-License-Identifier: Apache-2.0
// The control socket as callers see it: answers, order, streams, limits, and hostile or dead
// callers.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "trireme/control/client.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/control/server.hpp"

namespace trireme::control {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

/// Runs a server in its own thread, in a temporary directory.
class ControlSocket : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/trireme-control-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = socket_path(directory_);
    ASSERT_GE(sd_event_new(&event_), 0);
  }

  void TearDown() override {
    stop();
    server_.reset();
    sd_event_unref(event_);
    std::filesystem::remove_all(directory_);
  }

  void serve(Limits limits = {}) {
    auto server = Server::listen(event_, path_, limits);
    ASSERT_TRUE(server) << server.error().text();
    server_ = std::move(*server);
    server_->on("echo", Access::anyone,
                [](const Caller& /*caller*/, const json& params, const Reply& reply) {
                  reply.result(params);
                });
    server_->on("whoami", Access::root,
                [](const Caller& caller, const json& /*params*/, const Reply& reply) {
                  reply.result({{"pid", caller.pid}, {"uid", caller.uid}});
                });
    server_->on("fail", Access::anyone,
                [](const Caller& /*caller*/, const json& /*params*/, const Reply& reply) {
                  reply.error({"no", "try again"});
                });
    server_->on("wrong", Access::anyone,
                [](const Caller& /*caller*/, const json& /*params*/, const Reply& reply) {
                  reply.error(fail_usage({"no such port", "use a number"}).value());
                });
    server_->on("throw", Access::anyone,
                [](const Caller& /*caller*/, const json& params, const Reply& reply) {
                  reply.result(params.at("missing").get<std::string>());
                });
    server_->on("forget", Access::anyone,
                [](const Caller& /*caller*/, const json& /*params*/, const Reply& /*reply*/) {});
    server_->on("count", Access::anyone,
                [this](const Caller& /*caller*/, const json& params, const Reply& reply) {
                  const int count = params.at("count").get<int>();
                  ++counted_;
                  for (int i = 0; i < count; ++i) {
                    reply.event({{"n", i}, {"padding", params.value("padding", "")}});
                  }
                  reply.result({{"count", count}});
                });
    server_->on("list", Access::anyone,
                [this](const Caller& /*caller*/, const json& params, const Reply& reply) {
                  const auto next =
                      [this,
                       left = params.at("count").get<int>()]() mutable -> std::optional<json> {
                    ++asked_;
                    return left-- > 0 ? std::optional(json{{"padding", std::string(1000, 'x')}})
                                      : std::nullopt;
                  };
                  params.value("events", false) ? reply.list_events(next, "all") : reply.list(next);
                });
    server_->on("line", Access::anyone,
                [](const Caller& /*caller*/, const json& params, const Reply& reply) {
                  reply.result_line(
                      Reply::make_line(std::string(params.at("size").get<std::size_t>(), 'x')));
                });
    server_->on("hold", Access::anyone,
                [this](const Caller& /*caller*/, const json& /*params*/, const Reply& reply) {
                  reply.on_close([this] { ++closed_; });
                  held_.push_back(reply);
                });
    server_->on("release", Access::anyone,
                [this](const Caller& /*caller*/, const json& /*params*/, const Reply& reply) {
                  for (const Reply& held : held_) {
                    held.result("released");
                  }
                  held_.clear();
                  reply.result(closed_.load());
                });
  }

  void start() {
    thread_ = std::thread([this] {
      while (!stopping_) {
        sd_event_run(event_, 10'000);
      }
      held_.clear();
    });
  }

  void stop() {
    stopping_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  Fd raw() {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  /// Reads until the server closes the connection ("<end>") or `lines` lines have arrived.
  static std::string read(const Fd& fd, int lines) {
    std::string text;
    char chunk[4096];
    while (lines > 0) {
      pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
      if (::poll(&entry, 1, 5000) <= 0) {
        return text + "<silence>";
      }
      const ssize_t count = ::recv(fd.get(), chunk, sizeof chunk, 0);
      if (count <= 0) {
        return text + "<end>";
      }
      text.append(chunk, static_cast<std::size_t>(count));
      lines -= static_cast<int>(std::count(chunk, chunk + count, '\n'));
    }
    return text;
  }

  static void write(const Fd& fd, std::string_view text) {
    EXPECT_GE(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), 0);
  }

  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) {
        return true;
      }
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  std::string directory_;
  std::string path_;
  sd_event* event_ = nullptr;
  std::unique_ptr<Server> server_;
  std::vector<Reply> held_;
  std::atomic<int> closed_ = 0;
  std::atomic<int> asked_ = 0;    // calls of `next` of a list
  std::atomic<int> counted_ = 0;  // requests of the method "count"
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

TEST_F(ControlSocket, AnswersWithTheResult) {
  serve();
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client) << client.error().text();
  for (int i = 0; i < 3; ++i) {
    const auto answer = client->call("echo", {{"n", i}}, 5s);
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->at("n"), i);
  }
}

TEST_F(ControlSocket, CarriesErrorsWithTheirHints) {
  serve();
  start();
  for (const auto& [method, message, hint] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"fail", "no", "try again"},
           {"wrong", "no such port", "use a number"},
           {"nothing", "unknown method 'nothing'", "versions"},
           {"forget", "no answer", "bug"}}) {
    auto client = Client::connect(path_);
    ASSERT_TRUE(client);
    const auto answer = client->call(method, json::object(), 5s);
    ASSERT_FALSE(answer);
    EXPECT_NE(answer.error().message.find(message), std::string::npos) << answer.error().message;
    EXPECT_NE(answer.error().hint.find(hint), std::string::npos) << answer.error().hint;
    EXPECT_EQ(answer.error().usage, method == "wrong");
  }
}

TEST_F(ControlSocket, AHandlerThatThrowsIsAnError) {
  serve();
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  EXPECT_FALSE(client->call("throw", json::object(), 5s));
  EXPECT_TRUE(client->call("echo", json::object(), 5s));
}

TEST_F(ControlSocket, TellsTheHandlerWhoCalls) {
  if (::getuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  serve();
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  const auto answer = client->call("whoami", json::object(), 5s);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->at("pid"), ::getpid());
  EXPECT_EQ(answer->at("uid"), 0);
}

TEST_F(ControlSocket, RefusesRootMethodsToOthers) {
  if (::getuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  serve();
  start();
  std::string answers;
  // Another thread, because the raw system call changes the uid of the calling thread only.
  std::thread([&] {
    ASSERT_EQ(::syscall(117 /* setresuid */, -1, 65534, -1), 0);
    const Fd fd = raw();
    write(fd, "{\"method\":\"whoami\"}\n{\"method\":\"echo\"}\n");
    answers = read(fd, 2);
  }).join();
  EXPECT_NE(answers.find("only root"), std::string::npos) << answers;
  EXPECT_NE(answers.find("\"result\":{}"), std::string::npos) << answers;
}

TEST_F(ControlSocket, AnswersLinesThatCameTogetherInOrder) {
  serve();
  start();
  const Fd fd = raw();
  write(fd, R"({"method":"echo","params":{"n":1}})"
            "\n\nnonsense\n"
            R"({"method":"echo","params":[]})"
            "\n"
            R"({"method":"echo","params":{"n":2}})"
            "\n");
  const std::string answers = read(fd, 4);
  const auto first = answers.find("\"n\":1");
  const auto second = answers.find("invalid JSON");
  const auto third = answers.find("params is not an object");
  const auto fourth = answers.find("\"n\":2");
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_LT(third, fourth);
  EXPECT_NE(fourth, std::string::npos) << answers;
}

TEST_F(ControlSocket, AnswersACallerThatEndedItsOwnDirection) {
  serve();
  start();
  const Fd fd = raw();
  write(fd, "{\"method\":\"echo\"}\n");
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read(fd, 2), "{\"result\":{},\"version\":1}\n<end>");
}

TEST_F(ControlSocket, StreamsEventsBeforeTheResult) {
  serve();
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  int seen = 0;
  const auto answer = client->call("count", {{"count", 100}}, 5s,
                                   [&](const json& event) { return event.at("n") == seen++; });
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(seen, 100);
  EXPECT_EQ(answer->at("count"), 100);
}

TEST_F(ControlSocket, AListIsAnArray) {
  serve({.backlog_bytes = 1000});
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  for (const int count : {0, 1, 2, 2'000}) {
    const auto answer = client->call("list", {{"count", count}}, 5s);
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_TRUE(answer->is_array());
    EXPECT_EQ(answer->size(), count);
    EXPECT_TRUE(client->call("echo", json::object(), 5s)) << "and the next request is answered";
  }
}

TEST_F(ControlSocket, AResultInPiecesIsWhole) {
  serve({.backlog_bytes = 1000});
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  for (const std::size_t size : {0U, 1000U, 3'000'000U}) {
    const auto answer = client->call("line", {{"size", size}}, 5s);
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->get<std::string>(), std::string(size, 'x'));
    EXPECT_TRUE(client->call("echo", json::object(), 5s)) << "and the next request is answered";
  }
}

TEST_F(ControlSocket, AListOfEventsEndsWithItsResult) {
  serve({.backlog_bytes = 1000});
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  int events = 0;
  const auto answer =
      client->call("list", {{"count", 2'000}, {"events", true}}, 5s, [&](const json& event) {
        events += event.at("padding").is_string() ? 1 : 0;
        return true;
      });
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(*answer, "all");
  EXPECT_EQ(events, 2'000);
}

TEST_F(ControlSocket, AListWaitsForItsReaderAndNobodyElseDoes) {
  serve();
  start();
  Fd fd = raw();
  write(fd, R"({"method":"list","params":{"count":1000000}})"
            "\n");
  EXPECT_EQ(read(fd, 0), "");
  ASSERT_TRUE(eventually([&] { return asked_ > 0; }));
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  EXPECT_TRUE(client->call("echo", json::object(), 5s));
  EXPECT_LT(asked_, 10'000) << "values that are not read are not made";
  fd.reset();
  EXPECT_TRUE(client->call("echo", json::object(), 5s));
}

TEST_F(ControlSocket, AListReachesACallerThatEndedItsOwnDirection) {
  serve();
  start();
  const Fd fd = raw();
  write(fd, R"({"method":"list","params":{"count":1000,"events":true}})"
            "\n");
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_NE(read(fd, 1001).find(R"({"result":"all","version":1})"), std::string::npos);
}

TEST_F(ControlSocket, TellsAHandlerThatTheCallerHungUp) {
  serve();
  start();
  {
    const Fd fd = raw();
    write(fd, "{\"method\":\"hold\"}\n");
    auto client = Client::connect(path_);
    ASSERT_TRUE(client);
    ASSERT_TRUE(client->call("echo", json::object(), 5s));
    EXPECT_EQ(closed_, 0);
  }
  EXPECT_TRUE(eventually([&] { return closed_ == 1; }));
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  EXPECT_TRUE(client->call("release", json::object(), 5s))
      << "an answer to a disconnected caller is ignored";
}

TEST_F(ControlSocket, WhoSendsManyRequestsAtOnceHoldsNobodyUp) {
  serve();
  start();
  const Fd fd = raw();
  std::string many;
  while (many.size() < (4U << 20U)) {
    many += R"({"method":"count","params":{"count":0}})"
            "\n\n";
  }
  std::thread sender([&] { ::send(fd.get(), many.data(), many.size(), MSG_NOSIGNAL); });
  pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&entry, 1, 5000), 1);
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  int before = counted_;
  ASSERT_TRUE(eventually([&] { return std::exchange(before, counted_.load()) == counted_; }))
      << "answers that are not read are not made";
  EXPECT_LT(counted_, 5'000);
  EXPECT_TRUE(client->call("echo", json::object(), 5s));
  ::shutdown(fd.get(), SHUT_RDWR);
  sender.join();
}

TEST_F(ControlSocket, AnswersAllThatCameTogetherHoweverMany) {
  serve();
  start();
  const Fd fd = raw();
  std::string many(100'000, '\n');
  for (int i = 0; i < 500; ++i) {
    many += json{{"method", "echo"}, {"params", {{"n", i}}}}.dump() + "\n";
  }
  std::thread sender([&] {
    write(fd, many);
    ::shutdown(fd.get(), SHUT_WR);
  });
  const std::string answers = read(fd, 501);
  sender.join();
  EXPECT_EQ(std::count(answers.begin(), answers.end(), '\n'), 500);
  EXPECT_NE(answers.find("{\"n\":499},\"version\":1}\n<end>"), std::string::npos);
}

TEST_F(ControlSocket, AnswersLater) {
  serve();
  start();
  const Fd fd = raw();
  write(fd, "{\"method\":\"hold\"}\n{\"method\":\"echo\"}\n");
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  ASSERT_TRUE(eventually([&] {
    const auto rc = client->call("release", json::object(), 5s);
    pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 10) > 0;
  }));
  EXPECT_EQ(read(fd, 2),
            "{\"result\":\"released\",\"version\":1}\n{\"result\":{},\"version\":1}\n");
  EXPECT_EQ(closed_, 0);
}

TEST_F(ControlSocket, EndsALineWithoutEnd) {
  serve({.line_bytes = 1000});
  start();
  const Fd fd = raw();
  write(fd, std::string(5000, '['));
  const std::string answer = read(fd, 2);
  EXPECT_NE(answer.find("longer than 1000 bytes"), std::string::npos) << answer;
  EXPECT_NE(answer.find("<end>"), std::string::npos) << answer;
}

TEST_F(ControlSocket, RefusesDeepJsonAndServesOn) {
  serve();
  start();
  const Fd fd = raw();
  const auto nested = [](std::size_t levels) {
    return R"({"method":"echo","params":{"deep":)" + std::string(levels, '[') +
           std::string(levels, ']') + "}}\n";
  };
  write(fd, nested(64'000));
  EXPECT_NE(read(fd, 1).find(R"({"error":)"), std::string::npos);
  write(fd, nested(15));  // 17 levels with the request and its params
  EXPECT_NE(read(fd, 1).find("more than 16 levels"), std::string::npos);
  write(fd, nested(14));
  EXPECT_EQ(read(fd, 1), R"({"result":{"deep":)" + std::string(14, '[') + std::string(14, ']') +
                             R"(},"version":1})"
                             "\n");
}

TEST_F(ControlSocket, EveryLineOfAnAnswerHasTheVersion) {
  serve();
  start();
  const Fd fd = raw();
  for (const auto& [request, lines] : std::vector<std::pair<std::string, int>>{
           {R"({"method":"echo","params":{"a":1}})", 1},
           {R"({"method":"none"})", 1},
           {R"({"method":"list","params":{"count":3}})", 1},
           {R"({"method":"line","params":{"size":3}})", 1},
           {R"({"method":"list","params":{"count":3,"events":true}})", 4},
           {"nonsense", 1}}) {
    write(fd, request + "\n");
    std::istringstream answer(read(fd, lines));
    int seen = 0;
    for (std::string line; std::getline(answer, line); ++seen) {
      EXPECT_EQ(json::parse(line).at("version"), kProtocolVersion) << line;
    }
    EXPECT_EQ(seen, lines) << request;
  }
}

TEST_F(ControlSocket, DropsAReaderThatDoesNotRead) {
  serve({.backlog_bytes = 100'000});
  start();
  const Fd fd = raw();
  write(fd, json{{"method", "count"},
                 {"params", {{"count", 5000}, {"padding", std::string(1000, 'x')}}}}
                    .dump() +
                "\n");
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  EXPECT_TRUE(client->call("echo", json::object(), 5s))
      << "other callers are served in the meantime";
  EXPECT_NE(read(fd, 100'000).find("<end>"), std::string::npos);
}

TEST_F(ControlSocket, DropsCallersThatStall) {
  serve({.stall = std::chrono::milliseconds(200)});
  start();
  const Fd idle = raw();
  const Fd half = raw();
  write(half, "{\"method\":");
  const Fd waiting = raw();
  write(waiting, "{\"method\":\"hold\"}\n");
  EXPECT_EQ(read(idle, 1), "<end>");
  EXPECT_EQ(read(half, 1), "<end>");
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(closed_, 0) << "a caller that waits for an answer does not stall";
}

TEST_F(ControlSocket, BoundsConnections) {
  serve({.connections = 3});
  start();
  std::vector<Fd> open;
  for (int i = 0; i < 3; ++i) {
    open.push_back(raw());
    write(open.back(), "{\"method\":\"echo\"}\n");
    EXPECT_EQ(read(open.back(), 1), "{\"result\":{},\"version\":1}\n");
  }
  const Fd fourth = raw();
  const std::string refused = read(fourth, 2);
  EXPECT_NE(refused.find("too many connections"), std::string::npos) << refused;
  EXPECT_NE(refused.find("},\"version\":1}\n"), std::string::npos) << refused;
  open.clear();
  EXPECT_TRUE(eventually([&] {
    auto client = Client::connect(path_);
    return client && client->call("echo", json::object(), 5s);
  }));
}

TEST_F(ControlSocket, LeavesRoomForOtherUsersAndForRoot) {
  if (::getuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  serve({.connections = 6, .connections_per_uid = 2, .connections_unprivileged = 4});
  start();
  std::vector<Fd> open;
  const auto is_admitted = [&](uid_t uid) {
    std::string answer;
    std::thread([&] {
      ASSERT_EQ(::syscall(117 /* setresuid */, -1, uid, -1), 0);
      open.push_back(raw());
      const std::string_view request = "{\"method\":\"echo\"}\n";
      // If the caller is refused, the connection can be closed already.
      std::ignore = ::send(open.back().get(), request.data(), request.size(), MSG_NOSIGNAL);
      answer = read(open.back(), 1);
    }).join();
    if (answer != "{\"result\":{},\"version\":1}\n") {
      EXPECT_NE(answer.find("too many connections"), std::string::npos) << answer;
      open.pop_back();
      return false;
    }
    return true;
  };
  EXPECT_TRUE(is_admitted(65534));
  EXPECT_TRUE(is_admitted(65534));
  EXPECT_FALSE(is_admitted(65534)) << "the limit of one user is two";
  EXPECT_TRUE(is_admitted(65533));
  EXPECT_TRUE(is_admitted(65533));
  EXPECT_TRUE(is_admitted(65532)) << "a user with most connections makes room";
  EXPECT_EQ(read(open.front(), 1), "<end>") << "the oldest connection is closed";
  EXPECT_FALSE(is_admitted(65533)) << "no room for the user with most connections";
  EXPECT_TRUE(is_admitted(0));
  EXPECT_TRUE(is_admitted(0));
  EXPECT_FALSE(is_admitted(0)) << "the limit of all users is six";
  open.clear();
  EXPECT_TRUE(eventually([&] { return is_admitted(65534); }))
      << "closed connections free the share";
}

TEST_F(ControlSocket, AUserWithoutPauseIsTurnedAwayAndOthersAreNot) {
  if (::getuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  serve({.requests = {.each = {.burst = 20, .per_second = 0.001},
                      .together = {.burst = 1000, .per_second = 0},
                      .reserve = {.burst = 0, .per_second = 0},
                      .owners = 8}});
  start();
  const auto answered = [&](uid_t uid, int asked) {
    int count = 0;
    std::thread([&] {
      ASSERT_EQ(::syscall(117 /* setresuid */, -1, uid, -1), 0);
      const Fd fd = raw();
      for (int i = 0; i < asked; ++i) {
        write(fd, "{\"method\":\"echo\"}\n");
        count += read(fd, 1) == "{\"result\":{},\"version\":1}\n" ? 1 : 0;
      }
    }).join();
    return count;
  };
  EXPECT_EQ(answered(65534, 100), 20);
  EXPECT_EQ(server_->turned_away(), 80U);
  EXPECT_EQ(answered(65533, 20), 20) << "another user";
  EXPECT_EQ(answered(0, 100), 100) << "root";
  for (int i = 0; i < 30; ++i) {  // connections have a limit of their own
    std::thread([&] {
      ASSERT_EQ(::syscall(117 /* setresuid */, -1, 65534, -1), 0);
      const Fd fd = raw();
    }).join();
  }
  EXPECT_TRUE(eventually([&] { return server_->turned_away() >= 80U + 11U; }));
}

TEST_F(ControlSocket, SurvivesBytesThatAreNoUtf8) {
  serve();
  server_->on("bytes", Access::anyone,
              [](const Caller& /*caller*/, const json& /*params*/, const Reply& reply) {
                reply.result(std::string("a\xff") + "b");
              });
  start();
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  const auto answer = client->call("bytes", json::object(), 5s);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->get<std::string>(),
            "a\xEF\xBF\xBD"
            "b");
}

TEST_F(ControlSocket, ReplacesASocketNobodyAnswersAndNothingElse) {
  serve();
  const auto second = Server::listen(event_, path_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another triremed is listening"), std::string::npos)
      << second.error().text();

  const std::string stale = directory_ + "/stale.sock";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, stale.c_str(), stale.size() + 1);
    const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  {
    const auto third = Server::listen(event_, stale);
    ASSERT_TRUE(third) << third.error().text();
    struct stat info {};
    ASSERT_EQ(::stat(stale.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0666U);
  }
  EXPECT_FALSE(std::filesystem::exists(stale)) << "the destructor removes the socket";

  const std::string file = directory_ + "/file.sock";
  std::ofstream(file) << "precious";
  EXPECT_FALSE(Server::listen(event_, file));
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
  EXPECT_FALSE(Server::listen(event_, directory_ + "/" + std::string(200, 'x')));
}

TEST_F(ControlSocket, SaysHowToReachADaemonThatIsNotThere) {
  const auto client = Client::connect(path_);
  ASSERT_FALSE(client);
  EXPECT_NE(client.error().hint.find("systemctl start trireme"), std::string::npos);
}

TEST_F(ControlSocket, ASilentDaemonIsATimeout) {
  serve();  // without start(): the event loop does not run
  auto client = Client::connect(path_);
  ASSERT_TRUE(client);
  const auto answer = client->call("echo", json::object(), 100ms);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("in time"), std::string::npos);
}

TEST_F(ControlSocket, OneInstancePerDirectory) {
  auto first = lock_instance(directory_);
  ASSERT_TRUE(first) << first.error().text();
  EXPECT_FALSE(lock_instance(directory_));
  first->reset();
  EXPECT_TRUE(lock_instance(directory_));
}

}  // namespace
}  // namespace trireme::control
