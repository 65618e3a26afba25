// SPDX-License-Identifier: Apache-2.0
#include "worker.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

namespace trireme::verifier {

using handshake::Event;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kHandshakes = 16'384;  // at a time, in one thread
constexpr milliseconds kReportAgain{5'000};
constexpr milliseconds kReadLost{1'000};
constexpr std::uint64_t kWake = ~std::uint64_t{0};  // epoll data of the eventfd

void signal_event(int fd) {
  const std::uint64_t one = 1;
  std::ignore = ::write(fd, &one, sizeof one);  // fails if the counter is full: readable anyway
}

std::uint64_t hash(const Event& event) {
  std::uint64_t value = std::uint64_t{event.local} << 40U ^ std::uint64_t{event.protocol} << 32U ^
                        std::uint64_t{event.ends.destination_port} << 16U ^
                        static_cast<std::uint64_t>(event.reason) << 8U ^
                        static_cast<std::uint64_t>(event.verdict) << 1U ^
                        static_cast<std::uint64_t>(event.local_is_client) ^
                        static_cast<std::uint64_t>(event.is_other_policy) << 63U;
  const policy::Address& remote =
      event.local_is_client ? event.ends.destination : event.ends.source;
  for (const std::uint8_t byte : remote.bytes) {
    value = (value ^ byte) * 0x100000001b3U;
  }
  return value | 1U;
}

}  // namespace

milliseconds monotonic() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);  // 1 to 4 ms late, but cheap
  return std::chrono::duration_cast<milliseconds>(std::chrono::seconds(now.tv_sec) +
                                                  std::chrono::nanoseconds(now.tv_nsec));
}

bool EventLimiter::admit(const Event& event, milliseconds now) {
  const std::uint64_t key = hash(event);
  Slot& slot = slots_[(key * 0x9e3779b97f4a7c15U >> 32U) % kSlots];
  if (slot.key == key && now < slot.until) {
    return false;
  }
  slot = {key, now + kReportAgain};
  return true;
}

Result<std::unique_ptr<Verifier::Worker>> Verifier::Worker::create(handshake::IdentityBook& book,
                                                                   handshake::Proved& proved,
                                                                   int event) {
  auto engine = handshake::Engine::create(kHandshakes, book, proved);
  if (!engine) {
    return tl::unexpected(engine.error());
  }
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event readable{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (!epoll.valid() || !wake.valid() ||
      ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &readable) != 0) {
    return fail_errno("cannot set up a verifier thread");
  }
  return std::unique_ptr<Worker>(
      new Worker(std::move(*engine), std::move(epoll), std::move(wake), event));
}

Verifier::Worker::Worker(std::unique_ptr<handshake::Engine> engine, Fd epoll, Fd wake, int event)
    : engine_(std::move(engine)), epoll_(std::move(epoll)), wake_(std::move(wake)), event_(event) {
  engine_->on_event = [this](Event&& reported) { take(std::move(reported)); };
  engine_->on_sample = [this](Event&& sample) { take_sample(std::move(sample)); };
  events_.reserve(EventRoom::kEvents + EventRoom::kSamples);
}

Verifier::Worker::~Worker() {
  if (thread_.joinable()) {
    stop_ = true;
    signal_event(wake_.get());
    thread_.join();
  }
}

void Verifier::Worker::begin() {
  // Block all signals in the new thread: the main thread handles them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread_.native_handle(), "verifier");
}

void Verifier::Worker::post(Message message) {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.push_back(std::move(message));
  }
  has_mail_ = true;
  signal_event(wake_.get());
}

void Verifier::Worker::run() {
  std::array<epoll_event, 64> ready{};
  while (!stop_) {
    const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()),
                                   milliseconds_to_tick());
    for (int i = 0; i < count; i++) {
      const std::uint64_t name = ready.at(static_cast<std::size_t>(i)).data.u64;
      if (name == kWake) {
        std::uint64_t counter = 0;
        std::ignore = ::read(wake_.get(), &counter, sizeof counter);
        read_mail();
      } else if (const auto point = points_.find(static_cast<handshake::PointId>(name));
                 point != points_.end()) {
        serve(*point->second);
      }
    }
    tick();
    publish();
  }
}

void Verifier::Worker::read_mail() {
  if (!has_mail_.exchange(false)) {
    return;
  }
  std::vector<Message> mail;
  {
    const std::scoped_lock lock(mail_mutex_);
    mail.swap(mail_);
  }
  for (const Message& message : mail) {
    message(*this);
  }
}

/// The packet path: reads a batch from the queue, passes each packet to the engine, and returns the
/// verdicts in order.
void Verifier::Worker::serve(Point& point) {
  const handshake::PointId id = point.id;
  const auto packets = point.queue.receive();
  // A workload's labels are posted before the kernel lets its first packet pass: read messages that
  // were posted before these packets came.
  if (has_mail_) {
    read_mail();
    if (!points_.contains(id)) {
      return;
    }
  }
  now_ = monotonic();
  const handshake::Now now{now_, std::chrono::system_clock::now()};
  behind_ = packets.size();
  for (const kernel::QueuedPacket& packet : packets) {
    behind_--;
    handle(point, packet, now);
  }
  point.queue.flush();
  packets_ += packets.size();
}

/// Stores an event for take_events(). Never waits for the reader: drops the event instead.
void Verifier::Worker::take(Event&& event) {
  if (!limiter_.admit(event, now_)) {
    return;
  }
  const std::unique_lock lock(events_mutex_, std::try_to_lock);
  if (!lock || !room_.take(handshake::owner_of(event))) {
    events_lost_++;
    return;
  }
  events_.push_back(std::move(event));
  signal_event(event_);
}

/// As take(). A sample that is dropped is not counted as lost: samples are never complete.
void Verifier::Worker::take_sample(Event&& event) {
  const std::unique_lock lock(events_mutex_, std::try_to_lock);
  if (lock && room_.take_sample()) {
    events_.push_back(std::move(event));
    signal_event(event_);
  }
}

void Verifier::Worker::take_events(std::vector<Event>& events) {
  const std::scoped_lock lock(events_mutex_);
  std::ranges::move(events_, std::back_inserter(events));
  events_.clear();
  room_.clear();
}

void Verifier::Worker::attach(handshake::PointId point, kernel::Queue queue,
                              kernel::RawSender control, std::shared_ptr<Shared> shared) {
  points_[point] = std::make_unique<Point>(
      Point{point, std::move(queue), std::move(control), std::move(shared)});
  if (takes_packets_) {
    listen_to(*points_[point]);
  }
}

void Verifier::Worker::listen_to(const Point& point) {
  epoll_event readable{.events = EPOLLIN, .data = {.u64 = point.id}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, point.queue.fd(), &readable);
}

void Verifier::Worker::open_queues() {
  takes_packets_ = true;
  for (const auto& [id, point] : points_) {
    listen_to(*point);
  }
}

void Verifier::Worker::detach(handshake::PointId point) {
  if (const auto gone = points_.find(point); gone != points_.end()) {
    lost_before_ += gone->second->queue.lost();
    points_.erase(gone);  // closing the socket removes it from epoll
  }
  engine_->forget_point(point);
}

void Verifier::Worker::publish() {
  const handshake::EngineStatistics& engine = engine_->statistics();
  if (now_ >= lost_read_ + kReadLost) {
    lost_read_ = now_;
    lost_ = lost_before_;
    for (const auto& [id, point] : points_) {
      lost_ += point->queue.lost();  // reads a file
    }
  }
  if (const std::unique_lock lock(crowding_mutex_, std::try_to_lock); lock) {
    crowding_ = engine.crowding;
  }
  const std::array values = {engine.hellos,
                             engine.replies,
                             engine.authorized,
                             engine.unproved,
                             engine.verifications,
                             engine.remembered,
                             engine.peers,
                             engine.evicted,
                             engine.handshakes,
                             packets_,
                             lost_,
                             proofs_lost_,
                             events_lost_};
  static_assert(values.size() + handshake::kReasons == kCounters);
  std::size_t index = 0;
  for (const auto& list :
       {std::span<const std::uint64_t>(engine.refused), std::span<const std::uint64_t>(values)}) {
    for (const std::uint64_t value : list) {
      counters_.at(index++).store(value, std::memory_order_relaxed);
    }
  }
}

void Verifier::Worker::add_statistics(VerifierStatistics& sum) {
  {
    const std::scoped_lock lock(crowding_mutex_);
    for (std::size_t i = 0; i < sum.crowding.size(); i++) {
      handshake::Crowding& all = sum.crowding.at(i);
      const handshake::Crowding& here = crowding_.at(i);
      all.given_up += here.given_up;
      if (here.last > all.last) {
        all.last = here.last;
        all.holder = here.holder;
      }
    }
  }
  std::size_t index = 0;
  const auto next = [&] { return counters_.at(index++).load(std::memory_order_relaxed); };
  for (std::uint64_t& refused : sum.refused) {
    refused += next();
  }
  for (std::uint64_t* value :
       {&sum.hellos, &sum.replies, &sum.authorized, &sum.unproved, &sum.verifications,
        &sum.remembered, &sum.peers, &sum.evicted, &sum.handshakes, &sum.packets, &sum.lost,
        &sum.proofs_lost, &sum.events_lost}) {
    *value += next();
  }
}

}  // namespace trireme::verifier
