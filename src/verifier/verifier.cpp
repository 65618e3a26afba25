// SPDX-License-Identifier: Apache-2.0
#include "trireme/verifier/verifier.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>

#include "worker.hpp"

namespace trireme::verifier {
namespace {

constexpr std::uint32_t kQueueLength = 4'096;  // packets in each queue
constexpr std::chrono::milliseconds kFinish{500};
constexpr std::chrono::milliseconds kFinishStep{5};

}  // namespace

Result<PointSockets> PointSockets::open(std::size_t threads) {
  auto sender = kernel::RawSender::open(abi::kProofPriority);
  if (!sender) {
    return tl::unexpected(sender.error());
  }
  auto conntrack = kernel::Conntrack::open();
  if (!conntrack) {
    return tl::unexpected(conntrack.error());
  }
  auto table = kernel::SocketTable::open();
  if (!table) {
    return tl::unexpected(table.error());
  }
  PointSockets sockets(std::move(*sender), std::move(*conntrack), std::move(*table));
  for (std::size_t i = 0; i < threads; i++) {
    auto queue =
        kernel::Queue::bind(static_cast<std::uint16_t>(abi::kFirstQueue + i), kQueueLength);
    if (!queue) {
      return tl::unexpected(queue.error());
    }
    sockets.queues_.push_back(std::move(*queue));
    auto control = kernel::RawSender::open(abi::kControlPriority);
    if (!control) {
      return tl::unexpected(control.error());
    }
    sockets.controls_.push_back(std::move(*control));
  }
  return sockets;
}

Result<std::unique_ptr<Verifier>> Verifier::start(std::size_t threads,
                                                  handshake::IdentityBook& book,
                                                  handshake::Proved& proved) {
  std::unique_ptr<Verifier> verifier(new Verifier());
  verifier->proved_ = &proved;
  verifier->event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!verifier->event_.valid()) {
    return fail_errno("cannot set up the verifier");
  }
  for (std::size_t i = 0; i < std::clamp<std::size_t>(threads, 1, abi::kMostThreads); i++) {
    auto worker = Worker::create(book, proved, verifier->event_.get());
    if (!worker) {
      return tl::unexpected(worker.error());
    }
    (*worker)->engine().set_named(&verifier->named_);
    verifier->workers_.push_back(std::move(*worker));
  }
  std::ranges::for_each(verifier->workers_, [](const auto& worker) { worker->begin(); });
  return verifier;
}

Verifier::Verifier() : limiter_(std::make_unique<EventLimiter>()) {}
Verifier::~Verifier() = default;

void Verifier::post(const std::function<void(Worker&)>& message) {
  std::ranges::for_each(workers_, [&](const auto& worker) { worker->post(message); });
}

void Verifier::post_and_wait(const std::function<void(Worker&)>& message) {
  const auto read = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(workers_.size()));
  post([message, read](Worker& worker) {
    message(worker);
    read->count_down();
  });
  read->wait();
}

void Verifier::open_queues() {
  post([](Worker& worker) { worker.open_queues(); });
}

void Verifier::set_policy(const std::shared_ptr<const policy::Policy>& policy) {
  post_and_wait([policy](Worker& worker) { worker.engine().set_policy(policy); });
}

void Verifier::set_trust(const std::shared_ptr<const credentials::Trust>& trust) {
  post_and_wait([trust](Worker& worker) { worker.engine().set_trust(trust); });
}

void Verifier::set_peers(const std::vector<policy::Prefix>& peers,
                         const std::vector<policy::Prefix>& host_nat) {
  post([peers, host_nat](Worker& worker) {
    worker.engine().set_peers(peers);
    worker.engine().set_host_nat(host_nat);
  });
}

void Verifier::set_near(const std::vector<policy::Prefix>& networks) {
  post([networks](Worker& worker) { worker.engine().set_near(networks); });
}

void Verifier::add_local(const std::shared_ptr<const handshake::LocalIdentity>& identity,
                         handshake::PointId point) {
  post([identity, point](Worker& worker) { worker.engine().add_local(identity, point); });
}

void Verifier::enter(handshake::PointId point, policy::Number number) {
  post([point, number](Worker& worker) { worker.engine().enter(point, number); });
}

void Verifier::leave(handshake::PointId point, policy::Number number) {
  post([point, number](Worker& worker) { worker.engine().leave(point, number); });
}

void Verifier::remove_local(policy::Number number) {
  post([number](Worker& worker) { worker.engine().remove_local(number); });
}

void Verifier::add_point(handshake::PointId point, PointSockets sockets) {
  auto shared = std::make_shared<Shared>(std::move(sockets.sender_), std::move(sockets.conntrack_),
                                         std::move(sockets.sockets_));
  for (std::size_t i = 0; i < workers_.size(); i++) {
    // Messages must be copyable, sockets are not: hence the shared pointers.
    auto queue = std::make_shared<kernel::Queue>(std::move(sockets.queues_.at(i)));
    auto control = std::make_shared<kernel::RawSender>(std::move(sockets.controls_.at(i)));
    workers_[i]->post([point, queue, control, shared](Worker& worker) {
      worker.attach(point, std::move(*queue), std::move(*control), shared);
    });
  }
}

void Verifier::remove_point(handshake::PointId point) {
  // Wait, because the same namespace may become a point again at once and needs free queues.
  post_and_wait([point](Worker& worker) { worker.detach(point); });
  named_.forget_point(point);
  proved_->connections.forget_point(point);
  proved_->datagrams.forget_point(point);
}

void Verifier::finish() {
  post_and_wait([](Worker& worker) { worker.engine().finish(); });
  const auto end = monotonic() + kFinish;
  std::atomic<bool> awaits = true;
  while (awaits && monotonic() < end) {
    awaits = false;
    post_and_wait([&awaits](Worker& worker) {
      if (worker.engine().awaits_proof(monotonic())) {
        awaits = true;
      }
    });
    if (awaits) {
      std::this_thread::sleep_for(kFinishStep);
    }
  }
}

std::vector<handshake::Event> Verifier::take_events() {
  std::uint64_t counter = 0;
  std::ignore = ::read(event_.get(), &counter, sizeof counter);
  std::vector<handshake::Event> events;
  std::ranges::for_each(workers_, [&](const auto& worker) { worker->take_events(events); });
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
  std::erase_if(events, [&](const handshake::Event& event) {
    return event.sample != 0 ? !samples_.admit(event.sample, handshake::owner_of(event), now)
                             : !limiter_->admit(event, now);
  });
  return events;
}

VerifierStatistics Verifier::statistics() const {
  VerifierStatistics sum;
  std::ranges::for_each(workers_, [&](const auto& worker) { worker->add_statistics(sum); });
  return sum;
}

}  // namespace trireme::verifier
