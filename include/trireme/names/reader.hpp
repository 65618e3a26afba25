// SPDX-License-Identifier: Apache-2.0
// Answers of name servers in IP packets: one in a datagram, any number in a TCP connection. Knows
// nothing of sockets or queues.
#pragma once

#include <list>
#include <map>

#include "trireme/names/answer.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::names {

/// A packet with the port 53 as its source, as its receiver is about to get it.
struct Heard {
  std::uint8_t protocol = 0;  // IPPROTO_UDP, IPPROTO_TCP; 0: unreadable
  wire::Ends ends;
  std::vector<Answer> answers;  // that this packet completes
  bool early =
      false;  // a TCP segment ahead of one that is missing: to be dropped, its sender repeats it
};

class Reader {
 public:
  /// `packet` from its IP header on, as far as it was copied; `length` is all of it. A message in
  /// TCP counts with the segment that completes it; the receiver can make nothing of those before.
  /// A connection begins with its SYN-ACK, or else with the first segment seen of it.
  [[nodiscard]] Heard read(std::span<const std::uint8_t> packet, std::size_t length);

  /// Bytes of TCP messages that are not complete.
  [[nodiscard]] std::size_t buffered() const;

 private:
  static constexpr std::size_t kStreams =
      128;  // connections at a time; the one unused for longest gives way
  struct Stream {
    wire::Ends ends;
    std::uint32_t first = 0;  // sequence number; a late copy of the SYN-ACK has the same
    std::uint32_t next = 0;
    std::vector<std::uint8_t> partial;
  };

  void read_segment(const wire::Segment& segment, Heard& heard);
  Stream& stream(const wire::Ends& ends, std::uint32_t sequence);
  void forget(const wire::Ends& ends);
  static void complete(Stream& stream, std::vector<Answer>& answers);

  std::list<Stream> streams_;  // the most recently used first
  std::map<wire::Ends, std::list<Stream>::iterator> by_ends_;
};

}  // namespace trireme::names
