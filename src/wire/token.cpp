// SPDX-License-Identifier: Apache-2.0
#include "trireme/wire/token.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "trireme/wire/control.hpp"

namespace trireme::wire {
namespace {

/// Offsets in the header.
constexpr std::size_t kVersionAt = 8, kMessageAt = 9, kTypeAt = 10, kFlagsAt = 11, kNonceAt = 12,
                      kCredentialLengthAt = 28, kLabelsLengthAt = 30, kPolicyAt = 32;

bool is_possible(CredentialType type, std::size_t length) {
  constexpr std::size_t kPskHash = 8;
  constexpr std::size_t kHostName = 64;
  switch (type) {
    case CredentialType::certificate:
      return length >= 1 && length <= kMaxToken;
    case CredentialType::psk:
      return length > kPskHash && length <= kPskHash + kHostName;
    case CredentialType::local:
      break;
  }
  return false;
}

std::size_t tag_size(Message message) {
  return message == Message::hello ? 0 : kTagSize;
}

/// Whether the flags are valid for a token in a TCP segment; in a datagram.
bool are_for_segments(std::uint8_t flags) {
  return flags == 0;
}

bool are_for_datagrams(std::uint8_t flags) {
  return (flags & ~kClosing) == kDatagram;
}

bool is_writable(const Token& token) {
  return (token.message == Message::hello || token.message == Message::reply ||
          token.message == Message::refusal) &&
         is_possible(token.type, token.credential.size()) && token.labels.size() <= 0xFFFF &&
         token.tag.size() == tag_size(token.message);
}

}  // namespace

const char* text(BadToken bad) {
  switch (bad) {
    case BadToken::no_token:
      return "not a token";
    case BadToken::truncated:
      return "lengths that do not add up, or too long";
    case BadToken::version:
      return "another protocol version";
    case BadToken::message:
      return "unexpected message type";
    case BadToken::credential:
      return "unknown credential type or invalid credential length";
    case BadToken::flags:
      return "unknown flags";
  }
  return "bad token";
}

namespace {

/// Reads a token at the start of `bytes`, which may have more bytes after it. `bytes` may be at
/// most `most` bytes.
tl::expected<Token, BadToken> read_first(Message expected, std::span<const std::uint8_t> bytes,
                                         std::size_t most, bool (*are_known)(std::uint8_t flags)) {
  if (!is_control(bytes)) {
    return tl::unexpected(BadToken::no_token);
  }
  if (bytes.size() < kTokenHeader || bytes.size() > most) {
    return tl::unexpected(BadToken::truncated);
  }
  if (bytes[kVersionAt] != kVersion) {
    return tl::unexpected(BadToken::version);
  }
  if (bytes[kMessageAt] != static_cast<std::uint8_t>(expected)) {
    return tl::unexpected(BadToken::message);
  }
  const auto type = static_cast<CredentialType>(bytes[kTypeAt]);
  const std::size_t credential = read16(bytes, kCredentialLengthAt);
  const std::size_t labels = read16(bytes, kLabelsLengthAt);
  if (!is_possible(type, credential)) {
    return tl::unexpected(BadToken::credential);
  }
  if (!are_known(bytes[kFlagsAt])) {
    return tl::unexpected(BadToken::flags);
  }
  const auto body = bytes.subspan(kTokenHeader);
  if (body.size() < credential + labels + tag_size(expected)) {
    return tl::unexpected(BadToken::truncated);
  }
  PolicyDigest policy{};
  std::ranges::copy(bytes.subspan<kPolicyAt, policy.size()>(), policy.begin());
  return Token{expected,
               type,
               bytes[kFlagsAt],
               bytes.subspan<kNonceAt, kNonceSize>(),
               policy,
               body.first(credential),
               body.subspan(credential, labels),
               body.subspan(credential + labels, tag_size(expected))};
}

std::size_t size_of(const Token& token) {
  return kTokenHeader + token.credential.size() + token.labels.size() + token.tag.size();
}

void write_start(std::uint8_t message, CredentialType type, std::uint8_t flags,
                 std::span<std::uint8_t> out) {
  std::copy(abi::kMagic.begin(), abi::kMagic.end(), out.begin());
  out[kVersionAt] = kVersion;
  out[kMessageAt] = message;
  out[kTypeAt] = static_cast<std::uint8_t>(type);
  out[kFlagsAt] = flags;
}

std::size_t write_whole(const Token& token, std::span<std::uint8_t> out) {
  const std::size_t size = size_of(token);
  if (!is_writable(token) || size > out.size()) {
    return 0;
  }
  write_start(static_cast<std::uint8_t>(token.message), token.type, token.flags, out);
  std::copy(token.nonce.begin(), token.nonce.end(), out.begin() + kNonceAt);
  write16(out, kCredentialLengthAt, token.credential.size());
  write16(out, kLabelsLengthAt, token.labels.size());
  std::ranges::copy(token.policy, out.begin() + kPolicyAt);
  auto end =
      std::copy(token.credential.begin(), token.credential.end(), out.begin() + kTokenHeader);
  end = std::copy(token.labels.begin(), token.labels.end(), end);
  std::copy(token.tag.begin(), token.tag.end(), end);
  return size;
}

}  // namespace

tl::expected<Token, BadToken> read_token(Message expected, std::span<const std::uint8_t> bytes) {
  const auto token = read_first(expected, bytes, kMaxToken, are_for_segments);
  if (token && size_of(*token) != bytes.size()) {
    return tl::unexpected(BadToken::truncated);
  }
  return token;
}

std::size_t write_token(const Token& token, std::span<std::uint8_t> out) {
  return are_for_segments(token.flags)
             ? write_whole(token, out.first(std::min(out.size(), kMaxToken)))
             : 0;
}

std::uint8_t version_of(std::span<const std::uint8_t> bytes) {
  return is_control(bytes) && bytes.size() > kVersionAt ? bytes[kVersionAt] : 0;
}

bool is_control(std::span<const std::uint8_t> data) {
  return data.size() >= abi::kMagic.size() &&
         std::equal(abi::kMagic.begin(), abi::kMagic.end(), data.begin());
}

std::uint8_t control_message(std::span<const std::uint8_t> data) {
  return data.size() > kMessageAt ? data[kMessageAt] : 0;
}

tl::expected<Token, BadToken> read_datagram_token(Message expected,
                                                  std::span<const std::uint8_t> data) {
  const auto token = read_first(expected, data, kMaxControl, are_for_datagrams);
  if (!token) {
    return token;
  }
  const auto rest = data.subspan(size_of(*token));
  const bool is_padding = expected == Message::hello &&
                          std::ranges::all_of(rest, [](std::uint8_t byte) { return byte == 0; });
  return rest.empty() || is_padding ? token : tl::unexpected(BadToken::truncated);
}

std::size_t write_datagram_token(const Token& token, std::span<std::uint8_t> out) {
  const auto room = out.first(std::min(out.size(), kMaxControl));
  const std::size_t size = are_for_datagrams(token.flags) ? write_whole(token, room) : 0;
  if (size == 0 || token.message != Message::hello) {
    return size;
  }
  if (room.size() < kHelloDatagram) {
    return 0;
  }
  std::ranges::fill(room.subspan(size), std::uint8_t{0});
  return kHelloDatagram;
}

tl::expected<TagMessage, BadToken> read_tag_message(Message expected,
                                                    std::span<const std::uint8_t> data,
                                                    bool in_datagram) {
  if (!is_control(data)) {
    return tl::unexpected(BadToken::no_token);
  }
  if (data.size() != kTagDatagram) {
    return tl::unexpected(BadToken::truncated);
  }
  if (data[kVersionAt] != kVersion) {
    return tl::unexpected(BadToken::version);
  }
  if (data[kMessageAt] != static_cast<std::uint8_t>(expected)) {
    return tl::unexpected(BadToken::message);
  }
  if (data[kTypeAt] < static_cast<std::uint8_t>(CredentialType::certificate) ||
      data[kTypeAt] > static_cast<std::uint8_t>(CredentialType::local)) {
    return tl::unexpected(BadToken::credential);
  }
  if (!(in_datagram ? are_for_datagrams : are_for_segments)(data[kFlagsAt])) {
    return tl::unexpected(BadToken::flags);
  }
  return TagMessage{expected, static_cast<CredentialType>(data[kTypeAt]), data[kFlagsAt],
                    data.subspan<kNonceAt, kTagSize>()};
}

void write_tag_message(const TagMessage& message, std::span<std::uint8_t, kTagDatagram> out) {
  write_start(static_cast<std::uint8_t>(message.message), message.type, message.flags, out);
  std::copy(message.tag.begin(), message.tag.end(), out.begin() + kNonceAt);
}

}  // namespace trireme::wire
