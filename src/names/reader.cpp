// SPDX-License-Identifier: Apache-2.0
#include "trireme/names/reader.hpp"

#include <netinet/in.h>

#include <numeric>

#include "trireme/wire/datagram.hpp"

namespace trireme::names {
namespace {

/// Size in bytes of the length before each message in TCP (RFC 1035, section 4.2.2).
constexpr std::size_t kPrefix = 2;

}  // namespace

Reading Reader::read(std::span<const std::uint8_t> packet, std::size_t length) {
  Reading reading;
  if (const auto datagram = wire::Datagram::parse(packet, length);
      datagram && datagram->is_whole()) {
    reading.protocol = IPPROTO_UDP;
    reading.ends = datagram->ends();
    if (auto answer = read_answer(datagram->payload())) {
      reading.answers.push_back(std::move(*answer));
    }
  } else if (const auto segment = wire::Segment::parse(packet, length)) {
    reading.protocol = IPPROTO_TCP;
    reading.ends = segment->ends();
    segment->is_whole() ? read_segment(*segment, reading) : forget(reading.ends);
  }
  return reading;
}

void Reader::read_segment(const wire::Segment& segment, Reading& reading) {
  const bool begins = (segment.flags() & wire::TcpFlag::kSyn) != 0;
  std::span<const std::uint8_t> data = segment.payload();
  if (data.empty() && !begins) {
    return;
  }
  const std::uint32_t sequence = segment.sequence() + (begins ? 1U : 0U);
  Stream& known = stream(reading.ends, sequence);
  if (begins && known.first != sequence) {
    known = {reading.ends, sequence, sequence, {}};
  }
  const auto ahead = static_cast<std::int32_t>(sequence - known.next);
  if (ahead > 0) {
    reading.early = true;
    return;
  }
  const auto old = static_cast<std::size_t>(-std::int64_t{ahead});
  if (old >= data.size()) {
    return;  // a retransmission of data that was read before
  }
  data = data.subspan(old);
  known.next += static_cast<std::uint32_t>(data.size());
  known.partial.insert(known.partial.end(), data.begin(), data.end());
  complete(known, reading.answers);
}

Reader::Stream& Reader::stream(const wire::Ends& ends, std::uint32_t sequence) {
  if (const auto known = by_ends_.find(ends); known != by_ends_.end()) {
    streams_.splice(streams_.begin(), streams_, known->second);
    // A sequence number further away than any window: a new connection with the same ports, or one
    // of which segments were missed.
    constexpr std::uint32_t kWindow = 1U << 24U;
    if (sequence - streams_.front().next + kWindow > 2 * kWindow) {
      streams_.front() = {ends, sequence, sequence, {}};
    }
    return streams_.front();
  }
  if (streams_.size() >= kStreams) {
    by_ends_.erase(streams_.back().ends);
    streams_.pop_back();
  }
  streams_.push_front({ends, sequence, sequence, {}});
  by_ends_[ends] = streams_.begin();
  return streams_.front();
}

/// Called for a truncated segment, whose data are missing: tracking restarts with the next segment.
void Reader::forget(const wire::Ends& ends) {
  if (const auto known = by_ends_.find(ends); known != by_ends_.end()) {
    streams_.erase(known->second);
    by_ends_.erase(known);
  }
}

void Reader::complete(Stream& stream, std::vector<Answer>& answers) {
  std::span<const std::uint8_t> rest = stream.partial;
  while (rest.size() >= kPrefix) {
    const std::size_t size = kPrefix + (std::size_t{rest[0]} << 8U | rest[1]);
    if (rest.size() < size) {
      break;
    }
    if (auto answer = read_answer(rest.subspan(kPrefix, size - kPrefix))) {
      answers.push_back(std::move(*answer));
    }
    rest = rest.subspan(size);
  }
  stream.partial.erase(stream.partial.begin(),
                       stream.partial.end() - static_cast<std::ptrdiff_t>(rest.size()));
  if (stream.partial.empty()) {
    stream.partial.shrink_to_fit();
  }
}

std::size_t Reader::buffered() const {
  return std::accumulate(
      streams_.begin(), streams_.end(), std::size_t{0},
      [](std::size_t sum, const Stream& stream) { return sum + stream.partial.size(); });
}

}  // namespace trireme::names
