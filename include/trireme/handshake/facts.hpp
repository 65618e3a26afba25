// SPDX-License-Identifier: Apache-2.0
// What is known of a packet before it is handled. The engine asks the kernel nothing: what it has
// to know beside what the queue says is a question, and the packet comes again with the answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "trireme/credentials/trust.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::handshake {

/// Of an enforcement point within this process.
using PointId = std::uint32_t;
/// That of the daemon's own network namespace, through which the others reach the world.
inline constexpr PointId kHome = 0;

struct Now {
  std::chrono::milliseconds monotonic{};
  credentials::Time wall;
};

enum class TcpState : std::uint8_t {
  none,       // no socket, or what TIME_WAIT keeps
  half_open,  // a request for a connection, or the listener that would take one
  open,       // a connection
  unknown,    // the kernel did not answer
};

struct TcpSocket {
  TcpState state = TcpState::none;
  std::uint64_t cookie = 0;  // which of the sockets that have these ends one after the other
};

/// A flow as its client's packets are before and behind the NAT of this host, in whatever of its
/// network namespaces that is.
struct Translation {
  wire::Ends before;  // as they came to this host, or as its workload asked
  wire::Ends behind;  // as they go on
};

/// What the kernel is to be asked.
struct Question {
  enum class About : std::uint8_t {
    nothing,
    socket,       // what TCP has for a segment with these ends that came in by `device`
    translation,  // of the flow that the packet at hand belongs to
    departure,    // of the flow with which a request left that arrives
  };
  About about = About::nothing;
  std::uint8_t protocol = 0;  // IANA's number
  PointId point = 0;
  wire::Ends ends;           // of a translation: as the client sends
  std::uint32_t device = 0;  // ifindex
  bool is_client = false;    // whether that one is here
  /// Whether NAT of this very network namespace has part in the flow. Where nothing is known of it
  /// both ends of the answer are `ends`.
  bool is_changed = false;
};

struct PacketFacts {
  PointId point = 0;
  bool outgoing = false;
  std::uint32_t priority = 0;  // codes.hpp
  std::uint32_t mark = 0;
  std::uint32_t out_device = 0;  // ifindex
  std::uint32_t in_device = 0;
  std::uint32_t id = 0;  // the queue's name for the packet
  // Answers to questions, where they were asked.
  std::optional<TcpSocket> socket = {};
  std::optional<Translation> translation = {};
  std::optional<Translation> departure = {};
};

}  // namespace trireme::handshake
