// SPDX-License-Identifier: Apache-2.0
// One thread of the verifier.
#pragma once

#include <thread>
#include <unordered_map>

#include "event_room.hpp"
#include "trireme/verifier/verifier.hpp"

namespace trireme::verifier {

/// CLOCK_MONOTONIC_COARSE: up to 4 ms late.
[[nodiscard]] std::chrono::milliseconds monotonic();

/// Sockets of one enforcement point that all threads share.
struct Shared {
  Shared(kernel::RawSender raw, kernel::Conntrack table, kernel::SocketTable diag)
      : sender(std::move(raw)), conntrack(std::move(table)), sockets(std::move(diag)) {}
  kernel::RawSender sender;
  std::mutex mutex;  // protects the two below, which few packets need
  kernel::Conntrack conntrack;
  kernel::SocketTable sockets;
};

/// Lets the same event pass once in five seconds.
class EventLimiter {
 public:
  EventLimiter() : slots_(kSlots) {}
  /// True if an equal event has not been admitted in the last five seconds.
  [[nodiscard]] bool admit(const handshake::Event& event, std::chrono::milliseconds now);

 private:
  static constexpr std::size_t kSlots = 1024;
  struct Slot {
    std::uint64_t key = 0;
    std::chrono::milliseconds until{};
  };
  std::vector<Slot> slots_;
};

class Verifier::Worker final {
 public:
  using Message = std::function<void(Worker&)>;

  /// `event` is written to when there are events to take.
  [[nodiscard]] static Result<std::unique_ptr<Worker>> create(handshake::IdentityBook& book,
                                                              handshake::Proved& proved, int event);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void begin();
  // Called by other threads.
  void post(Message message);
  void take_events(std::vector<handshake::Event>& events);
  void add_statistics(VerifierStatistics& sum);

  // Called by messages, in this thread.
  void attach(handshake::PointId point, kernel::Queue queue, kernel::RawSender control,
              std::shared_ptr<Shared> shared);
  void detach(handshake::PointId point);
  void open_queues();
  [[nodiscard]] handshake::Engine& engine() { return *engine_; }

 private:
  struct Point {
    handshake::PointId id;
    kernel::Queue queue;
    kernel::RawSender control;
    std::shared_ptr<Shared> shared;
  };
  static constexpr std::size_t kCounters = handshake::kReasons + 13;

  Worker(std::unique_ptr<handshake::Engine> engine, Fd epoll, Fd wake, int event);
  void run();
  void read_mail();
  void listen_to(const Point& point);
  void serve(Point& point);
  void handle(Point& point, const kernel::QueuedPacket& packet, const handshake::Now& now);
  // outlet.cpp
  void answer(const handshake::Question& question, handshake::PacketFacts& facts);
  void perform(const handshake::Actions& actions);
  void give(Point& point, const handshake::PacketVerdict& verdict) const;
  void send(const handshake::ControlDatagram& datagram);
  void send(const handshake::OwnSegment& own);
  void alter(const handshake::EntryChange& change);
  [[nodiscard]] handshake::TcpSocket tcp_socket(const handshake::Question& question);
  [[nodiscard]] handshake::Translation translation(const handshake::Question& question);
  [[nodiscard]] Point* find(handshake::PointId point);
  [[nodiscard]] int milliseconds_to_tick() const;
  void tick();
  /// The conntrack entry of the flow whose packets from the client have these ends after NAT of
  /// their destination. The caller holds shared.mutex.
  [[nodiscard]] static std::optional<kernel::TrackedFlow> entry_of(Shared& shared,
                                                                   std::uint8_t protocol,
                                                                   const wire::Ends& translated);
  [[nodiscard]] static std::optional<wire::Ends> original(Shared& shared, std::uint8_t protocol,
                                                          const wire::Ends& translated);
  void take(handshake::Event&& event);
  void take_sample(handshake::Event&& event);
  void publish();

  std::unique_ptr<handshake::Engine> engine_;
  Fd epoll_;
  Fd wake_;  // eventfd
  int event_;
  std::unordered_map<handshake::PointId, std::unique_ptr<Point>> points_;
  bool takes_packets_ = false;
  std::chrono::milliseconds now_{};
  EventLimiter limiter_;
  wire::PacketBuffer own_;  // a packet to send
  std::uint64_t packets_ = 0;
  std::size_t behind_ = 0;         // packets of the current batch after the current one
  std::uint64_t lost_before_ = 0;  // packets lost by queues that are closed
  std::uint64_t lost_ = 0;
  std::chrono::milliseconds lost_read_{};
  std::uint64_t proofs_lost_ = 0;
  std::uint64_t events_lost_ = 0;

  std::atomic<bool> has_mail_ = false;
  std::mutex mail_mutex_;
  std::vector<Message> mail_;
  std::mutex events_mutex_;
  std::vector<handshake::Event> events_;
  EventRoom room_;
  std::array<std::atomic<std::uint64_t>, kCounters> counters_{};
  std::mutex crowding_mutex_;
  std::array<handshake::Crowding, handshake::kBounded> crowding_{};  // as last published
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace trireme::verifier
