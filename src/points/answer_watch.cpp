// SPDX-License-Identifier: Apache-2.0
#include "answer_watch.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>

#include "trireme/base/log_shares.hpp"
#include "trireme/gate/gate.hpp"

namespace trireme::points {
namespace {

/// After all events that change what is enforced, before those that are only reported.
constexpr std::int64_t kAnswersPriority = event::kNormal + 5;

/// The priority that a released answer gets. On lo it is the stamp, which the gate needs to
/// identify the sender; elsewhere it is 0.
std::uint32_t released(const kernel::QueuedPacket& packet) {
  return (packet.priority & ~abi::kNumberMask) == abi::kStamp ? packet.priority : 0;
}
/// Answers are few, and each can be as long as an IP packet.
constexpr kernel::QueueSize kQueueSize{.length = 1024, .copied = 65'531, .batch = 16};

}  // namespace

Result<std::unique_ptr<AnswerWatch>> AnswerWatch::open(sd_event* loop,
                                                       enforcer::Enforcer& enforcer) {
  auto queue = kernel::Queue::bind(abi::kAnswerQueue, kQueueSize);
  if (!queue) {
    return tl::unexpected(queue.error());
  }
  std::unique_ptr<AnswerWatch> watch(new AnswerWatch(std::move(*queue), enforcer));
  for (Status opened :
       {watch->readable_.open(
            loop, watch->queue_.fd(), EPOLLIN,
            [&made = *watch](std::uint32_t /*events*/) { made.serve(); }, kAnswersPriority),
        watch->round_.open(loop, [&made = *watch] { made.end_names(); })}) {
    if (!opened) {
      return tl::unexpected(opened.error());
    }
  }
  watch->round_.arm(enforcer::Enforcer::kNamesRound);
  return watch;
}

/// Serves one batch of answers. Their addresses go to the kernel in one transaction, and only then
/// are the answers released.
void AnswerWatch::serve() {
  std::vector<const kernel::QueuedPacket*> teaching;
  std::vector<names::Answer> answers;
  for (const kernel::QueuedPacket& packet : queue_.receive()) {
    names::Reading reading = reader_.read(packet.bytes, packet.length);
    if (reading.early) {
      queue_.drop(packet.id);
      continue;
    }
    enforcer_.observe(reading.answers, reading.protocol, reading.ends, packet.priority);
    std::erase_if(reading.answers, [this](const names::Answer& answer) {
      return !enforcer_.knows_name(answer.name);
    });
    const auto doubt = reading.answers.empty()
                           ? std::nullopt
                           : enforcer_.doubt(reading.protocol, reading.ends, packet.priority);
    if (doubt) {
      log_doubt(reading, reading.answers.front().name, *doubt);
    }
    if (reading.answers.empty() || doubt) {
      queue_.accept(packet.id, released(packet));
      continue;
    }
    std::ranges::move(reading.answers, std::back_inserter(answers));
    teaching.push_back(&packet);
  }
  const Status known = enforcer_.learn(answers);
  if (!known && log_shares().admit("name servers")) {
    spdlog::error("cannot store addresses from DNS answers; dropped them, resolvers retry: {}",
                  known.error().text());
  }
  for (const kernel::QueuedPacket* packet : teaching) {
    known ? queue_.accept(packet->id, released(*packet)) : queue_.drop(packet->id);
  }
  believed_ += known ? answers.size() : 0;
  queue_.flush();
}

void AnswerWatch::log_doubt(const names::Reading& reading, const std::string& name,
                            const std::string& why) {
  doubted_++;
  if (log_shares().admit("name servers")) {
    spdlog::warn("DNS answer of {} for {} not used: {}", reading.ends.source.text(), loggable(name),
                 why);
  }
}

void AnswerWatch::end_names() {
  if (Status ended = enforcer_.end_names(); !ended && log_shares().admit("name servers")) {
    spdlog::error("cannot remove expired addresses of DNS names, retrying: {}",
                  ended.error().text());
  }
  round_.arm(enforcer::Enforcer::kNamesRound);
}

}  // namespace trireme::points
