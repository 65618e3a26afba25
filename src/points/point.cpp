// SPDX-License-Identifier: Apache-2.0
#include "trireme/points/point.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <utility>

#include "answer_watch.hpp"
#include "drift.hpp"

namespace trireme::points {
namespace {

/// Tenths of conntrack's room.
constexpr std::uint64_t kFull = 9;
constexpr std::uint64_t kNoLongerFull = 8;

}  // namespace

Result<std::unique_ptr<Point>> Point::open(enforcer::Common& common, verifier::Verifier* verifier,
                                           const datapath::Layout& layout,
                                           std::shared_ptr<const kernel::Netns> network,
                                           std::shared_ptr<const policy::Policy> policy) {
  auto enforcer = enforcer::Enforcer::open(common, layout, std::move(policy));
  if (!enforcer) {
    return tl::unexpected(enforcer.error());
  }
  std::unique_ptr<kernel::AddressWatch> addresses;
  if (network == nullptr) {
    auto opened = kernel::AddressWatch::open();
    if (!opened) {
      return tl::unexpected(opened.error());
    }
    addresses = std::make_unique<kernel::AddressWatch>(std::move(*opened));
  }
  if (verifier != nullptr) {
    auto sockets = verifier::PointSockets::open(verifier->threads());
    if (!sockets) {
      return tl::unexpected(sockets.error());
    }
    verifier->add_point(layout.point, std::move(*sockets));
  }
  std::unique_ptr<Point> point(new Point(layout.point, std::move(network), verifier));
  point->enforcer_ = std::move(*enforcer);
  point->addresses_ = std::move(addresses);
  return point;
}

Point::Point(handshake::PointId id, std::shared_ptr<const kernel::Netns> network,
             verifier::Verifier* verifier)
    : id_(id), network_(std::move(network)), verifier_(verifier) {}

Point::~Point() {
  if (turns_ != nullptr) {
    turns_->remove(id_);
  }
}

void Point::leave_verifier() {
  if (verifier_ != nullptr) {
    verifier_->remove_point(id_);
  }
}

Status Point::watch(sd_event* loop, const Observers& observers, LogTurns& turns,
                    std::function<void()> on_addresses) {
  auto log = enforcer::FlowLog::open();
  if (!log) {
    return tl::unexpected(log.error());
  }
  const std::string owner = fmt::format("network namespace {}", id_);
  auto drift = Drift::open(loop, *enforcer_, owner,
                           {.repaired = [this, &observers] { observers.on_repaired(*this); },
                            .changed =
                                [this, &observers] {
                                  if (is_host()) {
                                    observers.on_foreign_change();
                                  }
                                }});
  if (!drift) {
    return tl::unexpected(drift.error());
  }
  if (enforcer_->has_queues()) {
    auto answers = AnswerWatch::open(loop, *enforcer_);
    if (!answers) {
      return tl::unexpected(answers.error());
    }
    answers_ = std::move(*answers);
  }
  observers_ = &observers;
  turns_ = &turns;
  log_ = std::move(*log);
  drift_ = std::move(*drift);
  if (auto queues = kernel::QueueCounters::open()) {
    queues_ = std::move(*queues);
  }
  if (auto use = kernel::ConntrackUse::open()) {
    conntrack_use_ = std::move(*use);
  }
  return follow(loop, std::move(on_addresses));
}

Status Point::follow(sd_event* loop, std::function<void()> on_addresses) {
  const auto readable = [this](std::uint32_t /*events*/) {
    logged_.pause();
    turns_->request(id_, [this] {
      read_log();
      logged_.resume();
    });
  };
  if (Status opened = logged_.open(loop, log_->fd(), EPOLLIN, readable, LogTurns::kPriority);
      !opened) {
    return opened;
  }
  if (addresses_ == nullptr) {
    return {};
  }
  return addresses_changed_.open(loop, addresses_->fd(), EPOLLIN,
                                 [this, changed = std::move(on_addresses)](std::uint32_t) {
                                   if (addresses_->drain()) {
                                     changed();
                                   }
                                 });
}

void Point::remember_ended(const workload::Workload& workload) {
  if (log_) {
    log_->remember_ended(workload);
  }
}

policy::Flow Point::describe(const gate::Refused& refused) const {
  return log_->tell(refused, observers_->registry, *enforcer_);
}

void Point::catch_up() {
  if (drift_ != nullptr) {
    drift_->catch_up();
  }
}

std::string Point::failure() const {
  return drift_ == nullptr ? "" : drift_->failure();
}

std::optional<std::string> Point::problem() const {
  return drift_ == nullptr ? std::nullopt : drift_->problem();
}

std::uint64_t Point::repairs() const {
  return drift_ == nullptr ? 0 : drift_->repairs();
}

std::uint64_t Point::logs_lost() const {
  return log_ ? log_->lost() : 0;
}

std::uint32_t Point::queued() const {
  std::uint32_t waiting = 0;
  for (const kernel::QueueCounter& counter :
       queues_ ? queues_->read() : std::vector<kernel::QueueCounter>()) {
    if (counter.number >= abi::kFirstQueue &&
        counter.number < abi::kFirstQueue + abi::kMostThreads) {
      waiting += counter.waiting;
    }
  }
  return waiting;
}

AnswerCounts Point::answers() const {
  return answers_ == nullptr
             ? AnswerCounts{}
             : AnswerCounts{answers_->believed(), answers_->doubted(), answers_->lost()};
}

void Point::read_conntrack() {
  auto count = conntrack_use_ ? conntrack_use_->read() : fail("the kernel does not report it");
  if (!count || count->most == 0) {
    conntrack_.reset();
    conntrack_full_ = false;
    return;
  }
  conntrack_ = *count;
  const std::uint64_t tenths = count->entries * 10 / count->most;
  conntrack_full_ = tenths >= kFull || (conntrack_full_ && tenths >= kNoLongerFull);
}

/// Workloads in quarantine share one number in the rules: the name is known if only one of them is
/// in this network namespace. Empty: none, or several.
std::string Point::only_quarantined() const {
  const workload::Workload* only = nullptr;
  for (const workload::Workload* workload : observers_->registry.all()) {
    if (workload->state == workload::State::quarantined && workload->is_in(network_)) {
      if (only != nullptr) {
        return "";
      }
      only = workload;
    }
  }
  return only != nullptr ? only->name : "";
}

void Point::read_log() {
  std::optional<std::string> quarantined;  // looked up once: there can be many workloads
  for (policy::Flow& flow : log_->read(*enforcer_, observers_->registry)) {
    for (policy::FlowEnd* end : {&flow.source, &flow.destination}) {
      if (end->quarantined) {
        if (!quarantined) {
          quarantined = only_quarantined();
        }
        end->workload = *quarantined;
      }
    }
    observers_->on_flow(std::move(flow));
  }
}

}  // namespace trireme::points
