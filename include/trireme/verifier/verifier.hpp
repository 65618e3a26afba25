// SPDX-License-Identifier: Apache-2.0
// The threads that perform handshakes: one for each queue number. Each serves that queue in the
// network namespace of every enforcement point.
//
// All packets of a flow go to the same thread (the rules choose the queue by a symmetric hash), so
// threads share no handshakes and take no lock per packet. Changes (policy, trust, workloads,
// enforcement points) reach the threads as messages, which they read before any later packet.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trireme/abi/abi.hpp"
#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/handshake/sample_limiter.hpp"
#include "trireme/kernel/conntrack.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/kernel/raw_sender.hpp"
#include "trireme/kernel/sockets.hpp"

namespace trireme::verifier {

/// Sockets of one enforcement point: a queue for each thread, and what the threads share.
class PointSockets {
 public:
  /// Opens the sockets in the current network namespace. Fails if another daemon has the queues.
  [[nodiscard]] static Result<PointSockets> open(std::size_t threads);

 private:
  friend class Verifier;
  PointSockets(kernel::RawSender sender, kernel::Conntrack conntrack, kernel::SocketTable sockets)
      : sender_(std::move(sender)),
        conntrack_(std::move(conntrack)),
        sockets_(std::move(sockets)) {}
  std::vector<kernel::Queue> queues_;
  std::vector<kernel::RawSender> controls_;  // for messages in UDP: abi::kControlPriority
  kernel::RawSender sender_;
  kernel::Conntrack conntrack_;
  kernel::SocketTable sockets_;
};

struct VerifierStatistics : handshake::EngineStatistics {
  std::uint64_t packets = 0;
  std::uint64_t lost = 0;  // packets that the kernel dropped because a queue was full
  /// PROOFs, and messages in UDP, that could not be sent; the peer asks again.
  std::uint64_t proofs_lost = 0;
  std::uint64_t events_lost = 0;  // events that were dropped because too many came at a time
};

class EventLimiter;

class Verifier {
 public:
  /// Starts up to abi::kMostThreads threads, which wait for enforcement points. `book` and `proved`
  /// must outlive the verifier. Fails if a thread cannot be set up or the system has no randomness.
  [[nodiscard]] static Result<std::unique_ptr<Verifier>> start(std::size_t threads,
                                                               handshake::IdentityBook& book,
                                                               handshake::Proved& proved);
  ~Verifier();
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  /// Starts to take packets from the queues. Until then they wait there, because a thread must know
  /// the workload of a request before it reads the request.
  void open_queues();
  [[nodiscard]] std::size_t threads() const { return workers_.size(); }

  // Messages to the threads. A thread handles each before any packet that the kernel queues after
  // the call has returned.

  /// These two return once no thread uses the previous value, so that a revocation that follows
  /// misses no flow.
  void set_policy(const std::shared_ptr<const policy::Policy>& policy);
  void set_trust(const std::shared_ptr<const credentials::Trust>& trust);
  /// `peers` is [host] peers; `host_nat` is [host] nat.
  void set_peers(const std::vector<policy::Prefix>& peers,
                 const std::vector<policy::Prefix>& host_nat);
  /// Addresses of this host and its containers, which cannot be on another host.
  void set_near(const std::vector<policy::Prefix>& networks);
  void add_local(const std::shared_ptr<const handshake::LocalIdentity>& identity,
                 handshake::PointId point);
  /// One more, or one less, cgroup at this enforcement point has the number of the workload.
  void enter(handshake::PointId point, policy::Number number);
  void leave(handshake::PointId point, policy::Number number);
  void remove_local(policy::Number number);
  /// DNS names of peers. A change takes effect in all threads at once.
  [[nodiscard]] handshake::NamedPeers& named() { return named_; }
  void add_point(handshake::PointId point, PointSockets sockets);
  /// Returns once the point's queues are closed, so that they can be opened again.
  void remove_point(handshake::PointId point);

  /// Begins no more TCP handshakes and waits for at most 500 ms until those in progress are
  /// complete, because the next daemon does not know them.
  void finish();

  /// Readable when take_events() has something to give.
  [[nodiscard]] int fd() const { return event_.get(); }
  /// Refusals, flows to log, and samples of allowed flows since the last call. The same event is
  /// returned at most once in 5 s; samples at most as often as handshake::SampleLimiter admits for
  /// all threads together.
  [[nodiscard]] std::vector<handshake::Event> take_events();
  [[nodiscard]] VerifierStatistics statistics() const;

 private:
  class Worker;
  Verifier();
  void post(const std::function<void(Worker&)>& message);
  void post_and_wait(const std::function<void(Worker&)>& message);

  handshake::NamedPeers named_;
  handshake::Proved* proved_ = nullptr;
  Fd event_;  // eventfd
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<EventLimiter> limiter_;  // by any thread
  handshake::SampleLimiter samples_;       // the same
};

}  // namespace trireme::verifier
