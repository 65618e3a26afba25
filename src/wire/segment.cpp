// SPDX-License-Identifier: Apache-2.0
#include "trireme/wire/segment.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "layout.hpp"
#include "options.hpp"
#include "proof_option.hpp"
#include "upper.hpp"

namespace trireme::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// The first option of this kind and size, or nothing.
std::optional<Bytes> find_option(Bytes options, std::uint8_t kind, std::size_t size) {
  OptionWalk walk(options);
  while (walk.next()) {
    if (walk.kind() == kind && walk.option().size() == size) {
      return walk.option();
    }
  }
  return std::nullopt;
}

}  // namespace

const char* text(Malformed malformed) {
  switch (malformed) {
    case Malformed::truncated:
      return "truncated header";
    case Malformed::no_ip:
      return "no IPv4 or IPv6 header";
    case Malformed::fragment:
      return "IP fragment";
    case Malformed::no_tcp:
      return "not TCP, or an unfinished source route";
    case Malformed::bad_length:
      return "the length in the IP header is not that of the packet";
    case Malformed::bad_option:
      return "IP or TCP option of invalid length";
  }
  return "malformed";
}

tl::expected<Segment, Malformed> Segment::parse(std::span<const std::uint8_t> packet,
                                                std::size_t length) {
  const auto found = find_upper(packet, length, kTcp);
  if (!found) {
    return tl::unexpected(found.error());
  }
  if (packet.size() - found->offset < kTcpHeader) {
    return tl::unexpected(Malformed::truncated);
  }
  const std::size_t header = (packet[found->offset + tcp::kDataOffset] >> 4U) * std::size_t{4};
  if (header < kTcpHeader) {
    return tl::unexpected(Malformed::no_tcp);
  }
  if (header > packet.size() - found->offset) {
    return tl::unexpected(Malformed::truncated);
  }
  Segment segment;
  segment.packet_ = packet;
  segment.length_ = length;
  segment.tcp_ = found->offset;
  segment.payload_ = found->offset + header;
  segment.v6_ = packet[0] >> 4U == 6;
  segment.authenticated_ = found->is_signed;
  OptionWalk walk(segment.options());
  while (walk.next()) {
  }
  if (walk.bad()) {
    return tl::unexpected(Malformed::bad_option);
  }
  return segment;
}

Ends Segment::ends() const {
  return ends_of(packet_, tcp_);
}

std::uint32_t Segment::sequence() const {
  return read32(packet_, tcp_ + tcp::kSequence);
}

std::uint32_t Segment::acknowledgement() const {
  return read32(packet_, tcp_ + tcp::kAcknowledgement);
}

std::uint8_t Segment::flags() const {
  return packet_[tcp_ + tcp::kFlags];
}

std::uint16_t Segment::window() const {
  return read16(packet_, tcp_ + tcp::kWindow);
}

std::size_t Segment::payload_size() const {
  return length_ - payload_;
}

std::span<const std::uint8_t> Segment::payload() const {
  return packet_.subspan(payload_);
}

std::span<const std::uint8_t> Segment::options() const {
  return packet_.subspan(tcp_ + kTcpHeader, payload_ - tcp_ - kTcpHeader);
}

std::optional<Timestamps> Segment::timestamps() const {
  const auto option = find_option(options(), option::kTimestamps, option::kTimestampsSize);
  return option ? std::optional(Timestamps{read32(*option, 2), read32(*option, 6)}) : std::nullopt;
}

std::optional<std::uint8_t> Segment::window_scale() const {
  constexpr std::uint8_t kMost = 14;  // RFC 7323, section 2.3: more means this
  const auto option = find_option(options(), option::kWindowScale, option::kWindowScaleSize);
  return option ? std::optional(std::min(kMost, (*option)[2])) : std::nullopt;
}

bool Segment::is_signed() const {
  OptionWalk walk(options());
  while (walk.next()) {
    if (walk.kind() == option::kMd5 || walk.kind() == option::kAuthentication) {
      return true;
    }
  }
  return authenticated_;
}

std::optional<std::span<const std::uint8_t, 16>> Segment::proof() const {
  const auto offset = find_proof(options());
  return offset ? std::optional(options().subspan(*offset + kProofPrefix).first<16>())
                : std::nullopt;
}

std::uint8_t Segment::traffic_class() const {
  return traffic_class_of(packet_);
}

std::uint32_t Segment::flow_label() const {
  return flow_label_of(packet_);
}

}  // namespace trireme::wire
