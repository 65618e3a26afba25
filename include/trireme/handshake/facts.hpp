// SPDX-License-Identifier: Apache-2.0
// What is known about a packet before the engine handles it. The engine does not query the kernel
// itself: if it needs more than the queue provides, it returns a question, and the caller passes
// the packet to it again with the answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "trireme/credentials/trust.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::handshake {

/// Id of an enforcement point within this process.
using PointId = std::uint32_t;
/// The daemon's own network namespace, through which the others reach the network.
inline constexpr PointId kHome = 0;

struct Now {
  std::chrono::milliseconds monotonic{};
  credentials::Time wall;
};

enum class TcpState : std::uint8_t {
  none,       // no socket, or one in TIME_WAIT
  half_open,  // a request socket, or the listener for it
  open,       // an established connection
  unknown,    // the kernel did not answer
};

struct TcpSocket {
  TcpState state = TcpState::none;
  std::uint64_t cookie = 0;  // identifies the socket among successive ones with the same endpoints
};

/// The endpoints of a flow before and after NAT on this host, in any of its network namespaces. The
/// source is the client.
struct Translation {
  wire::Ends before;  // as the packet arrived at this host, or left its workload
  wire::Ends after;   // after NAT
};

/// A question that the caller answers from the kernel.
struct Question {
  enum class About : std::uint8_t {
    nothing,
    socket,       // the TCP socket for a segment with these endpoints that arrived on `device`
    translation,  // NAT of the packet's flow
    departure,    // NAT of the flow in which an arriving request left its client's namespace
  };
  About about = About::nothing;
  std::uint8_t protocol = 0;  // IANA number
  PointId point = 0;
  wire::Ends ends;           // for a translation the source is the client
  std::uint32_t device = 0;  // ifindex
  bool is_client = false;    // the client is on this host
  /// True if NAT of this network namespace applies to the flow. If conntrack knows no translation,
  /// `before` and `after` of the answer both equal `ends`.
  bool is_changed = false;
};

struct PacketFacts {
  PointId point = 0;
  bool outgoing = false;
  std::uint32_t priority = 0;  // see abi/abi.hpp
  std::uint32_t mark = 0;
  std::uint32_t out_device = 0;  // ifindex
  std::uint32_t in_device = 0;
  std::uint32_t id = 0;  // the packet's id in the queue
  // Answers to the questions that the engine has asked about this packet.
  std::optional<TcpSocket> socket = {};
  std::optional<Translation> translation = {};
  std::optional<Translation> departure = {};
};

}  // namespace trireme::handshake
