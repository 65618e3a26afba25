// SPDX-License-Identifier: Apache-2.0
#include "answer_watch.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>

#include "trireme/base/log_shares.hpp"
#include "trireme/gate/gate.hpp"

namespace trireme::daemon {
namespace {

/// Below everything that changes who may talk, above what is merely told.
constexpr std::int64_t kAnswersPriority = event::kNormal + 5;

/// The priority that an answer goes on with: on lo its stamp, which the gate judges by.
std::uint32_t released(const kernel::QueuedPacket& packet) {
  return (packet.priority & ~gate::kStampedNumber) == gate::kStamp ? packet.priority : 0;
}
/// Answers are as long as a packet can be, and few.
constexpr kernel::QueueSize kQueueSize{.length = 1024, .copied = 65'531, .batch = 16};

}  // namespace

Result<std::unique_ptr<AnswerWatch>> AnswerWatch::open(sd_event* loop,
                                                       enforcer::Enforcer& enforcer) {
  auto queue = kernel::Queue::bind(enforcer::kAnswerQueue, kQueueSize);
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

/// A batch: all that it teaches goes to the kernel in one transaction, and only then are the
/// answers released.
void AnswerWatch::serve() {
  std::vector<const kernel::QueuedPacket*> teaching;
  std::vector<names::Answer> answers;
  for (const kernel::QueuedPacket& packet : queue_.receive()) {
    names::Heard heard = reader_.read(packet.bytes, packet.length);
    if (heard.early) {
      queue_.drop(packet.id);
      continue;
    }
    std::erase_if(heard.answers, [this](const names::Answer& answer) {
      return !enforcer_.knows_name(answer.name);
    });
    const auto doubt = heard.answers.empty()
                           ? std::nullopt
                           : enforcer_.doubt(heard.protocol, heard.ends, packet.priority);
    if (doubt) {
      tell_doubt(heard, heard.answers.front().name, *doubt);
    }
    if (heard.answers.empty() || doubt) {
      queue_.accept(packet.id, released(packet));
      continue;
    }
    std::ranges::move(heard.answers, std::back_inserter(answers));
    teaching.push_back(&packet);
  }
  const Status known = enforcer_.hear(answers);
  if (!known && log_shares().admit("name servers")) {
    spdlog::error("answers of name servers are dropped, and will be asked for again: {}",
                  known.error().text());
  }
  for (const kernel::QueuedPacket* packet : teaching) {
    known ? queue_.accept(packet->id, released(*packet)) : queue_.drop(packet->id);
  }
  believed_ += known ? answers.size() : 0;
  queue_.flush();
}

void AnswerWatch::tell_doubt(const names::Heard& heard, const std::string& name,
                             const std::string& why) {
  doubted_++;
  if (log_shares().admit("name servers")) {
    spdlog::warn("what {} says of {} puts no address into a network: {}", heard.ends.source.text(),
                 loggable(name), why);
  }
}

void AnswerWatch::end_names() {
  if (Status ended = enforcer_.end_names(); !ended && log_shares().admit("name servers")) {
    spdlog::error("addresses of names stay longer than they should: {}", ended.error().text());
  }
  round_.arm(enforcer::Enforcer::kNamesRound);
}

}  // namespace trireme::daemon
