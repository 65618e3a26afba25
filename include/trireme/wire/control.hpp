// SPDX-License-Identifier: Apache-2.0
// The messages of the token protocol as UDP datagrams of the flow itself. docs/protocol.md, "UDP",
// describes the layout. Numbers are big endian.
//
// HELLO and REPLY are the tokens of TCP with the flag kDatagram. HELLO is padded with zeros to
// kHelloDatagram bytes. PROOF, READY and MEET are the same first 12 bytes and a tag:
//
//   0   8  magic         9   1  message         11  1  flags
//   8   1  version       10  1  credential type 12  16 tag
//
// MEET is also sent in a TCP SYN, then without flags. Its tag is a random number that only the
// daemon which chose it can recognize.
#pragma once

#include "trireme/wire/datagram.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::wire {

/// Set in every message in a datagram, and in no token in a TCP segment, so that a message of one
/// carrier is not accepted in the other.
inline constexpr std::uint8_t kDatagram = 0x80;
/// The handshake ends the flow instead of authorizing it.
inline constexpr std::uint8_t kClosing = 0x01;

/// Size of a HELLO in bytes. No REPLY is larger, so a forged source address amplifies nothing.
inline constexpr std::size_t kHelloDatagram = kMaxControl;
inline constexpr std::size_t kTagDatagram = 12 + kTagSize;

/// Whether the data begin with the magic, so that they are not an application's.
[[nodiscard]] bool is_control(std::span<const std::uint8_t> data);

/// The message type in the header (see Message), 0 if `data` is too short. Checks nothing else.
[[nodiscard]] std::uint8_t control_message(std::span<const std::uint8_t> data);

/// Reads HELLO, REPLY or REFUSAL. `data` is the whole payload, at most kMaxControl bytes. Padding
/// after HELLO must be zeros.
[[nodiscard]] tl::expected<Token, BadToken> read_datagram_token(Message expected,
                                                                std::span<const std::uint8_t> data);
/// Writes HELLO with its padding, REPLY or REFUSAL. Returns the size in bytes; 0 if it does not fit
/// `out` or kMaxControl.
[[nodiscard]] std::size_t write_datagram_token(const Token& token, std::span<std::uint8_t> out);

/// PROOF, READY or MEET. `tag` points into the bytes that it was read from.
struct TagMessage {
  Message message = Message::proof;
  CredentialType type = CredentialType::certificate;
  std::uint8_t flags = 0;
  std::span<const std::uint8_t, kTagSize> tag;
};
/// Reads PROOF, READY or MEET. `in_datagram` is false for MEET in a SYN.
[[nodiscard]] tl::expected<TagMessage, BadToken> read_tag_message(
    Message expected, std::span<const std::uint8_t> data, bool in_datagram = true);
void write_tag_message(const TagMessage& message, std::span<std::uint8_t, kTagDatagram> out);

}  // namespace trireme::wire
