// SPDX-License-Identifier: Apache-2.0
// Connects the engine with the kernel: answers the engine's questions and performs its actions in
// their order.
#include <netinet/in.h>

#include <linux/netfilter.h>

#include <algorithm>

#include "trireme/abi/abi.hpp"
#include "trireme/wire/datagram.hpp"
#include "worker.hpp"

namespace trireme::verifier {

using handshake::FlowChange;
using handshake::Question;

Verifier::Worker::Point* Verifier::Worker::find(handshake::PointId point) {
  const auto found = points_.find(point);
  return found == points_.end() ? nullptr : found->second.get();
}

void Verifier::Worker::handle(Point& point, const kernel::QueuedPacket& packet,
                              const handshake::Now& now) {
  handshake::PacketFacts facts{.point = point.id,
                               .outgoing = packet.hook == NF_INET_LOCAL_OUT,
                               .priority = packet.priority,
                               .mark = packet.mark,
                               .out_device = packet.out_device,
                               .in_device = packet.in_device,
                               .id = packet.id};
  const handshake::Actions* actions = &engine_->handle(facts, packet.bytes, packet.length, now);
  while (actions->asks() && !actions->is_awaited()) {
    answer(actions->question(), facts);
    actions = &engine_->handle(facts, packet.bytes, packet.length, now);
  }
  perform(*actions);
  if (actions->is_awaited()) {
    point.queue.flush();  // conntrack knows the flow only after the verdict on its packet
    const Question question = actions->question();
    perform(engine_->go_on(question.about == Question::About::nothing
                               ? std::nullopt
                               : std::optional(translation(question))));
  }
}

void Verifier::Worker::answer(const Question& question, handshake::PacketFacts& facts) {
  switch (question.about) {
    case Question::About::socket:
      facts.socket = tcp_socket(question);
      break;
    case Question::About::translation:
      facts.translation = translation(question);
      break;
    case Question::About::departure:
      facts.departure = translation(question);
      break;
    case Question::About::nothing:
      break;
  }
}

/// Verdicts are buffered until the end of a batch. Packets that are sent after an accepted packet
/// must not overtake it, so its verdict is flushed first.
void Verifier::Worker::perform(const handshake::Actions& actions) {
  Point* let_go = nullptr;  // point with an accepted packet whose verdict is still buffered
  for (const handshake::Action& action : actions.all()) {
    if (const auto* verdict = std::get_if<handshake::PacketVerdict>(&action)) {
      Point* point = find(verdict->point);
      if (point == nullptr) {
        continue;
      }
      give(*point, *verdict);
      if (!verdict->drop) {
        if (let_go != nullptr && let_go != point) {
          let_go->queue.flush();
        }
        let_go = point;
      }
      continue;
    }
    if (let_go != nullptr) {
      let_go->queue.flush();
      let_go = nullptr;
    }
    if (const auto* datagram = std::get_if<handshake::ControlDatagram>(&action)) {
      send(*datagram);
    } else if (const auto* segment = std::get_if<handshake::OwnSegment>(&action)) {
      send(*segment);
    } else if (const auto* change = std::get_if<handshake::EntryChange>(&action)) {
      alter(*change);
    }
  }
}

void Verifier::Worker::give(Point& point, const handshake::PacketVerdict& verdict) const {
  if (verdict.drop) {
    point.queue.drop(verdict.id);
    return;
  }
  const bool is_followed = verdict.if_followed != 0 && (behind_ > 0 || point.queue.waits());
  const std::uint32_t priority = is_followed ? verdict.if_followed : verdict.priority;
  if (verdict.changed != nullptr) {
    point.queue.accept(verdict.id, priority, verdict.changed->view());
  } else {
    point.queue.accept(verdict.id, priority);
  }
}

void Verifier::Worker::send(const handshake::ControlDatagram& datagram) {
  Point* point = find(datagram.point);
  std::optional<wire::Ends> ends = datagram.ends;
  if (point != nullptr && datagram.translated) {
    ends = original(*point->shared, IPPROTO_UDP, datagram.ends);
  }
  if (point == nullptr || !ends || !point->control.set_priority(datagram.priority)) {
    proofs_lost_++;
    return;
  }
  wire::write_datagram(*ends, datagram.traffic_class, datagram.flow_label, datagram.data, own_);
  if (!point->control.send(own_.view(), ends->destination, datagram.device, datagram.mark)) {
    proofs_lost_++;
  }
}

void Verifier::Worker::send(const handshake::OwnSegment& own) {
  Point* point = find(own.point);
  if (point == nullptr) {
    return;
  }
  wire::OwnSegment segment = own.segment;
  if (own.translated) {
    const auto ends = original(*point->shared, IPPROTO_TCP, segment.ends);
    if (!ends) {
      proofs_lost_++;
      return;
    }
    segment.ends = *ends;
  }
  if (!own.refusal.empty()) {
    wire::write_refusal(segment, own.refusal, own_);
  } else if (own.proof) {
    wire::write_proof(segment, *own.proof, own_);
  } else {
    wire::write_syn_ack(segment, own_);
  }
  if (!point->shared->sender.send(own_.view(), segment.ends.destination,
                                  own.translated ? 0 : own.device, own.mark)) {
    proofs_lost_++;
  }
}

void Verifier::Worker::alter(const handshake::EntryChange& change) {
  Point* there = find(change.point);
  if (there == nullptr) {
    return;
  }
  Shared& shared = *there->shared;
  const std::scoped_lock lock(shared.mutex);
  const auto flow = entry_of(shared, change.protocol, change.ends);
  if (!flow) {
    return;
  }
  switch (change.change) {
    case FlowChange::renewed:
      std::ignore = shared.conntrack.clear_label_bits(*flow, abi::kRenewal);
      break;
    case FlowChange::withdraw:
      std::ignore = shared.conntrack.clear_label_bits(*flow, abi::kVerdictBits | abi::kRenewal);
      break;
    case FlowChange::clear:
      std::ignore = shared.conntrack.clear_label_bits(*flow, abi::kFlowBits);
      break;
    case FlowChange::forget:
      std::ignore = shared.conntrack.remove(*flow);
      break;
  }
}

handshake::TcpSocket Verifier::Worker::tcp_socket(const Question& question) {
  constexpr handshake::TcpSocket kUnknown{handshake::TcpState::unknown, 0};
  Point* there = find(question.point);
  if (there == nullptr) {
    return kUnknown;
  }
  Shared& shared = *there->shared;
  const std::scoped_lock lock(shared.mutex);
  const auto found = shared.sockets.find_connection({.protocol = IPPROTO_TCP,
                                                     .local = question.ends.destination,
                                                     .remote = question.ends.source,
                                                     .local_port = question.ends.destination_port,
                                                     .remote_port = question.ends.source_port},
                                                    question.device);
  if (!found) {
    return kUnknown;
  }
  switch (found->state) {
    case kernel::TcpState::none:
      return {handshake::TcpState::none, found->cookie};
    case kernel::TcpState::half_open:
      return {handshake::TcpState::half_open, found->cookie};
    case kernel::TcpState::open:
      break;
  }
  return {handshake::TcpState::open, found->cookie};
}

namespace {

wire::Ends as_sent(const kernel::FlowTuple& tuple) {
  return {tuple.source, tuple.destination, tuple.source_port, tuple.destination_port};
}

/// The tuple of the reply.
kernel::FlowTuple answer_to(const wire::Ends& ends) {
  return {ends.destination, ends.source, ends.destination_port, ends.source_port};
}

wire::Ends reversed(const kernel::FlowTuple& reply) {
  return {reply.destination, reply.source, reply.destination_port, reply.source_port};
}

}  // namespace

handshake::Translation Verifier::Worker::translation(const Question& question) {
  const std::uint8_t protocol = question.protocol;
  handshake::Translation flow{question.ends, question.ends};
  if (Point* there = question.is_changed ? find(question.point) : nullptr) {
    const std::scoped_lock lock(there->shared->mutex);
    if (const auto entry = entry_of(*there->shared, protocol, question.ends)) {
      flow = {as_sent(entry->original), reversed(entry->reply)};
    }
  }
  Point* home = question.point == handshake::kHome ? nullptr : find(handshake::kHome);
  if (home == nullptr) {
    return flow;
  }
  // In the host's namespace the flow has the addresses with which it leaves or enters this one.
  kernel::TrackedFlow entry;
  const kernel::FlowTuple inner{flow.after.source, flow.after.destination, flow.after.source_port,
                                flow.after.destination_port};
  const std::scoped_lock lock(home->shared->mutex);
  if (question.is_client) {
    // If both endpoints send datagrams, conntrack there may have recorded the other one as client.
    if (home->shared->conntrack.find(protocol, inner, entry).value_or(false)) {
      flow.after = entry.original == inner ? reversed(entry.reply)
                   : entry.reply == inner  ? reversed(entry.original)
                                           : flow.after;
    }
  } else if (const auto answer = answer_to(flow.before);
             home->shared->conntrack.find(protocol, answer, entry).value_or(false)) {
    flow.before = entry.reply == answer      ? as_sent(entry.original)
                  : entry.original == answer ? as_sent(entry.reply)
                                             : flow.before;
  }
  return flow;
}

int Verifier::Worker::milliseconds_to_tick() const {
  const auto next = engine_->next_tick();
  if (!next) {
    return -1;
  }
  // monotonic() is 1 to 4 ms late.
  return static_cast<int>(std::clamp<std::int64_t>((*next - monotonic()).count() + 1, 1, 60'000));
}

void Verifier::Worker::tick() {
  constexpr int kMost = 64;  // rounds; packets wait until they are done
  const auto is_due = [this] {
    const auto next = engine_->next_tick();
    return next && *next <= now_;
  };
  now_ = monotonic();
  if (!is_due()) {
    return;
  }
  for (int round = 0; round < kMost; round++) {
    const handshake::Actions& done = engine_->tick({now_, std::chrono::system_clock::now()});
    perform(done);
    if (done.has_room()) {
      break;
    }
  }
  for (const auto& [id, point] : points_) {
    point->queue.flush();
  }
}

std::optional<kernel::TrackedFlow> Verifier::Worker::entry_of(Shared& shared, std::uint8_t protocol,
                                                              const wire::Ends& translated) {
  kernel::TrackedFlow flow;
  const auto is_it = [&](const kernel::TrackedFlow& candidate) {
    return candidate.protocol == protocol && candidate.reply.source == translated.destination &&
           candidate.reply.source_port == translated.destination_port &&
           candidate.original.source == translated.source &&
           candidate.original.source_port == translated.source_port;
  };
  const kernel::FlowTuple reply{translated.destination, translated.source,
                                translated.destination_port, translated.source_port};
  // Look up both directions: NAT usually changes only one endpoint.
  const kernel::FlowTuple original{translated.source, translated.destination,
                                   translated.source_port, translated.destination_port};
  bool found = false;
  for (const kernel::FlowTuple& tuple : {reply, original}) {
    found = found || (shared.conntrack.find(protocol, tuple, flow).value_or(false) && is_it(flow));
  }
  if (!found) {
    // NAT after this hook has changed the source as well: search all entries.
    std::ignore = shared.conntrack.each([&](const kernel::TrackedFlow& candidate) {
      if (is_it(candidate)) {
        flow = candidate;
        found = true;
      }
    });
  }
  return found ? std::optional(flow) : std::nullopt;
}

/// The client's addresses and ports before NAT changed the destination.
std::optional<wire::Ends> Verifier::Worker::original(Shared& shared, std::uint8_t protocol,
                                                     const wire::Ends& translated) {
  const std::scoped_lock lock(shared.mutex);
  const auto flow = entry_of(shared, protocol, translated);
  if (!flow) {
    return std::nullopt;
  }
  return wire::Ends{flow->original.source, flow->original.destination, flow->original.source_port,
                    flow->original.destination_port};
}

}  // namespace trireme::verifier
