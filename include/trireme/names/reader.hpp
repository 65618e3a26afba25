// SPDX-License-Identifier: Apache-2.0
// Extracts DNS answers from IP packets: one from a datagram, any number from a TCP connection.
// Pure: uses neither sockets nor queues.
#pragma once

#include <list>
#include <map>

#include "trireme/names/answer.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::names {

/// What was read from a packet with source port 53 on its way to the receiver.
struct Reading {
  std::uint8_t protocol = 0;  // IPPROTO_UDP, IPPROTO_TCP; 0: the packet cannot be parsed
  wire::Ends ends;
  std::vector<Answer> answers;  // answers that this packet completes
  /// A TCP segment that follows a missing one: drop it, and the sender retransmits it.
  bool early = false;
};

class Reader {
 public:
  /// `packet` starts at the IP header and may be truncated; `length` is the full length in bytes. A
  /// message in TCP is returned with the segment that completes it: the receiver cannot use a part
  /// of it. Tracking of a connection starts with its SYN-ACK, or with the first segment seen.
  [[nodiscard]] Reading read(std::span<const std::uint8_t> packet, std::size_t length);

  /// Number of buffered bytes of incomplete TCP messages.
  [[nodiscard]] std::size_t buffered() const;

 private:
  /// Connections tracked at a time; the least recently used one is removed for a new one.
  static constexpr std::size_t kStreams = 128;
  struct Stream {
    wire::Ends ends;
    /// First sequence number, which identifies a late copy of the SYN-ACK.
    std::uint32_t first = 0;
    std::uint32_t next = 0;  // next expected sequence number
    std::vector<std::uint8_t> partial;
  };

  void read_segment(const wire::Segment& segment, Reading& reading);
  Stream& stream(const wire::Ends& ends, std::uint32_t sequence);
  void forget(const wire::Ends& ends);
  static void complete(Stream& stream, std::vector<Answer>& answers);

  std::list<Stream> streams_;  // most recently used first
  std::map<wire::Ends, std::list<Stream>::iterator> by_ends_;
};

}  // namespace trireme::names
