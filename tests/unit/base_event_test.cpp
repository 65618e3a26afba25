// SPDX-License-Identifier: Apache-2.0
// The event loop: no callback runs after its owner was destroyed, and none runs twice.
#include "trireme/base/event.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "trireme/base/fd.hpp"

namespace trireme::event {
namespace {

using namespace std::chrono_literals;

struct Events : testing::Test {
  /// Runs the loop until it is idle for a while.
  void settle() {
    constexpr int kTurns = 20;
    for (int i = 0; i < kTurns; i++) {
      ASSERT_TRUE(loop.run_once(5ms));
    }
  }
  /// Runs the loop until `holds` returns true, for at most a second.
  template <typename Holds>
  bool await(const Holds& holds) {
    const auto end = std::chrono::steady_clock::now() + 1s;
    while (!holds() && std::chrono::steady_clock::now() < end) {
      EXPECT_TRUE(loop.run_once(5ms));
    }
    return holds();
  }

  Loop loop = Loop::create().value();
  int calls = 0;
};

TEST_F(Events, ATimerCallsOnceEachTimeItIsArmed) {
  Timer timer;
  ASSERT_TRUE(timer.open(
      loop.get(), [this] { calls++; }, kNormal, kExact));
  settle();
  EXPECT_EQ(calls, 0) << "it was not armed";
  timer.arm(1ms);
  timer.arm(2ms);
  EXPECT_TRUE(await([this] { return calls == 1; }));
  settle();
  EXPECT_EQ(calls, 1);
  timer.arm(0ms);
  EXPECT_TRUE(await([this] { return calls == 2; })) << "at once";
  timer.arm(1ms);
  timer.disarm();
  settle();
  EXPECT_EQ(calls, 2);
  timer.arm(1ms);
  timer.close();
  settle();
  EXPECT_EQ(calls, 2);
}

TEST_F(Events, ADescriptorIsWatchedUntilItsWatchEnds) {
  const Fd fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  auto io = std::make_unique<Io>();
  ASSERT_TRUE(io->open(loop.get(), fd.get(), EPOLLIN, [this](std::uint32_t events) {
    EXPECT_NE(events & EPOLLIN, 0U);
    calls++;
  }));
  EXPECT_TRUE(await([this] { return calls > 1; })) << "as long as it is ready";
  io->pause();
  calls = 0;
  settle();
  EXPECT_EQ(calls, 0);
  io->resume();
  EXPECT_TRUE(await([this] { return calls > 0; }));
  EXPECT_TRUE(io->set_events(0));
  calls = 0;
  settle();
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(io->set_events(EPOLLIN));
  EXPECT_TRUE(await([this] { return calls > 0; }));
  io.reset();
  calls = 0;
  settle();
  EXPECT_EQ(calls, 0);
}

TEST_F(Events, ABadDescriptorIsAnError) {
  Io io;
  const Status opened = io.open(loop.get(), -1, EPOLLIN, [](std::uint32_t /*events*/) {});
  ASSERT_FALSE(opened);
  EXPECT_FALSE(opened.error().message.empty());
  EXPECT_FALSE(io.is_open());
}

TEST_F(Events, WhatIsCalledMayDestroyItsOwner) {
  struct Owner {
    Io io;
    Timer timer;
    std::string text = "still whole after the call";
  };
  const Fd fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  auto owner = std::make_unique<Owner>();
  const std::string copied = owner->text;
  ASSERT_TRUE(owner->io.open(loop.get(), fd.get(), EPOLLIN,
                             [this, &owner, copied](std::uint32_t /*events*/) {
                               owner.reset();
                               calls += copied.starts_with("still") ? 1 : 0;
                             }));
  ASSERT_TRUE(owner->timer.open(loop.get(), [this] { calls += 100; }));
  owner->timer.arm(0ms);
  owner->timer.disarm();
  EXPECT_TRUE(await([this] { return calls > 0; }));
  settle();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(owner, nullptr);
}

/// libcurl closes and opens sources within one callback: the end of the old source must not remove
/// the registration of the new one.
TEST_F(Events, ADescriptorThatIsClosedInItsOwnCallLeavesTheNextOneItsNumber) {
  Fd fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  const int number = fd.get();
  Io io;
  Io next;
  ASSERT_TRUE(io.open(loop.get(), fd.get(), EPOLLIN, [&](std::uint32_t /*events*/) {
    io.close();
    fd.reset();
    fd = Fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
    EXPECT_EQ(fd.get(), number);
    EXPECT_TRUE(
        next.open(loop.get(), fd.get(), EPOLLIN, [this](std::uint32_t /*events*/) { calls++; }));
  }));
  EXPECT_TRUE(await([this] { return calls > 2; }));
}

TEST_F(Events, WhatIsDueAtOnceIsCalledWhateverItsAccuracy) {
  Timer timer;
  ASSERT_TRUE(timer.open(
      loop.get(), [this] { calls++; }, kNormal, 10s));
  timer.arm(0ms);
  ASSERT_TRUE(loop.run_once(0ms));
  EXPECT_EQ(calls, 1);
}

TEST_F(Events, WhatIsNotOpenDoesNothing) {
  Timer timer;
  timer.arm(1ms);
  timer.disarm();
  Io io;
  io.pause();
  io.resume();
  EXPECT_TRUE(io.set_events(EPOLLIN));
  Deferred().request();
  settle();
  Timer moved;
  ASSERT_TRUE(timer.open(
      loop.get(), [this] { calls++; }, kNormal, kExact));
  moved = std::move(timer);
  moved.arm(1ms);
  EXPECT_TRUE(await([this] { return calls == 1; }));
}

TEST_F(Events, UrgentOnesGoFirst) {
  const Fd fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  std::string order;
  Io late;
  Io urgent;
  const auto note = [&order](char which) {
    return [&order, which](std::uint32_t /*events*/) { order += which; };
  };
  const Fd other(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  ASSERT_TRUE(late.open(loop.get(), fd.get(), EPOLLIN, note('l')));
  ASSERT_TRUE(urgent.open(loop.get(), other.get(), EPOLLIN, note('u'), kImportant));
  EXPECT_TRUE(await([&order] { return order.size() >= 3; }));
  EXPECT_EQ(order.find('l'), std::string::npos) << "as long as the urgent one is ready";
}

TEST_F(Events, WhatIsDeferredIsCalledOnceForAllThatAskedForIt) {
  Deferred deferred;
  ASSERT_TRUE(deferred.open(loop.get(), [this] { calls++; }));
  settle();
  EXPECT_EQ(calls, 0);
  deferred.request();
  deferred.request();
  settle();
  EXPECT_EQ(calls, 1);
  deferred.request();
  settle();
  EXPECT_EQ(calls, 2);
}

TEST_F(Events, ASignalIsACall) {
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &signals, &before), 0);
  ASSERT_TRUE(loop.on_signal(SIGUSR1, [this] {
    calls++;
    loop.end();
  }));
  ::raise(SIGUSR1);
  EXPECT_TRUE(loop.run());
  EXPECT_EQ(calls, 1);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(Events, ATurnEndsAfterWhatWasCalled) {
  int turns = 0;
  ASSERT_TRUE(loop.after_turns([&turns] { turns++; }));
  Timer timer;
  ASSERT_TRUE(timer.open(
      loop.get(), [this] { calls++; }, kNormal, kExact));
  timer.arm(1ms);
  EXPECT_TRUE(await([&turns] { return turns > 0; }));
  EXPECT_EQ(calls, 1);
}

TEST_F(Events, TheTimeOfATurnGoesOn) {
  const auto before = now(loop.get());
  ASSERT_TRUE(loop.run_once(2ms));
  EXPECT_GT(now(loop.get()), before);
}

TEST_F(Events, AConstructorThatCannotSetUpItsSourcesEndsTheLoop) {
  require(loop.get(), Status{});
  ASSERT_TRUE(loop.run_once(1ms));
  require(loop.get(), fail("no room"));
  EXPECT_FALSE(loop.run());
}

}  // namespace
}  // namespace trireme::event
