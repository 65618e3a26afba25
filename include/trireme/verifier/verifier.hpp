// SPDX-License-Identifier: Apache-2.0
// The threads of the token path: one for each queue number, serving that queue in every enforcement
// point's network namespace.
//
// A flow always meets the same thread (the rules choose the queue by a symmetric hash), so threads
// share no handshakes and take no locks per packet. What changes - policy, trust, workloads,
// enforcement points - reaches them as messages that they read before the packets that came later.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/kernel/conntrack.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/queue.hpp"
#include "trireme/kernel/raw_sender.hpp"
#include "trireme/kernel/sockets.hpp"

namespace trireme::verifier {

/// The queue that the first thread serves; the others' follow.
inline constexpr std::uint16_t kFirstQueue = 7434;
inline constexpr std::size_t kMostThreads = 4;

/// Sockets of one enforcement point, a queue for each thread.
class PointSockets {
 public:
  /// Opens them in the present network namespace.
  [[nodiscard]] static Result<PointSockets> open(std::size_t threads);

 private:
  friend class Verifier;
  PointSockets(kernel::RawSender sender, kernel::Conntrack conntrack, kernel::SocketTable sockets)
      : sender_(std::move(sender)),
        conntrack_(std::move(conntrack)),
        sockets_(std::move(sockets)) {}
  std::vector<kernel::Queue> queues_;
  std::vector<kernel::RawSender> controls_;  // for UDP's messages, whose priority differs
  kernel::RawSender sender_;
  kernel::Conntrack conntrack_;
  kernel::SocketTable sockets_;
};

struct VerifierStatistics : handshake::EngineStatistics {
  std::uint64_t packets = 0;
  std::uint64_t lost = 0;  // by queues: the kernel could not hand them over
  std::uint64_t proofs_lost =
      0;  // PROOFs and UDP's messages that could not be sent; the peer asks again
  std::uint64_t events_lost = 0;  // refusals that were not told: too many at a time
};

class Told;

class Verifier {
 public:
  /// Threads wait for enforcement points. Book and proved flows outlive the verifier. Errors: no
  /// threads, no randomness.
  [[nodiscard]] static Result<std::unique_ptr<Verifier>> start(std::size_t threads,
                                                               handshake::IdentityBook& book,
                                                               handshake::Proved& proved);
  ~Verifier();
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  /// From here on packets are taken from the queues. Until then they wait there: a request must not
  /// meet a thread that does not know its workload yet.
  void open_queues();
  [[nodiscard]] std::size_t threads() const { return workers_.size(); }

  // Messages to the threads: each is acted upon before any packet that the kernel queues after the
  // call has returned.
  /// These two return when no thread decides by the former any more, so that what is revoked
  /// afterwards is all there is.
  void set_policy(const std::shared_ptr<const policy::Policy>& policy);
  void set_trust(const std::shared_ptr<const credentials::Trust>& trust);
  /// [host] peers, and nat.
  void set_peers(const std::vector<policy::Prefix>& peers,
                 const std::vector<policy::Prefix>& translated);
  /// Addresses of this host and of its containers.
  void set_near(const std::vector<policy::Prefix>& networks);
  void add_local(const std::shared_ptr<const handshake::LocalIdentity>& identity,
                 handshake::PointId point);
  /// It is at this enforcement point as well, in one more cgroup; and in one less.
  void enter(handshake::PointId point, policy::Number number);
  void leave(handshake::PointId point, policy::Number number);
  void remove_local(policy::Number number);
  /// Peers that have DNS names: at once, for all threads.
  [[nodiscard]] handshake::NamedPeers& named() { return named_; }
  void add_point(handshake::PointId point, PointSockets sockets);
  /// Returns when the point's queues are free.
  void remove_point(handshake::PointId point);

  /// Completes the handshakes of TCP that are under way and begins no others, so that the next
  /// daemon need not know them; at most for half a second.
  void finish();

  /// Readable when take_events() has something to give.
  [[nodiscard]] int fd() const { return event_.get(); }
  /// What was refused, or is to be logged, since the last call; the same refusal comes once in five
  /// seconds.
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
  std::unique_ptr<Told> told_;  // by any thread
};

}  // namespace trireme::verifier
