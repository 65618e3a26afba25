// SPDX-License-Identifier: Apache-2.0
// The messages of the token protocol as UDP datagrams of the flow itself. docs/protocol.md, "UDP",
// has the layout.
//
// HELLO and REPLY are the tokens of TCP with the flag kDatagram; HELLO is followed by zeros up to
// kHelloDatagram bytes. PROOF, READY and MEET are the same first 12 bytes and a tag:
//
//   0   8  magic         9   1  message         11  1  flags
//   8   1  version       10  1  credential type 12  16 tag
//
// MEET is sent in TCP's SYN as well, then without flags. Its tag is random and says nothing to
// anybody but the daemon that drew it.
#pragma once

#include "trireme/wire/datagram.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::wire {

/// Every message in a datagram has it and no token in a TCP segment: what is said in one is not
/// believed in the other.
inline constexpr std::uint8_t kDatagram = 0x80;
/// The handshake ends the flow instead of authorising it.
inline constexpr std::uint8_t kClosing = 0x01;

/// HELLO's size: no REPLY is larger, so nothing is amplified.
inline constexpr std::size_t kHelloDatagram = kMaxControl;
inline constexpr std::size_t kTagDatagram = 12 + kTagSize;

/// Whether the data begin with the magic: no application's.
[[nodiscard]] bool is_control(std::span<const std::uint8_t> data);

/// Which message it claims to be. Nothing else of it is looked at.
[[nodiscard]] std::uint8_t control_message(std::span<const std::uint8_t> data);

/// HELLO or REPLY. `data` is all of the datagram, kMaxControl bytes at most; what follows HELLO
/// must be zeros.
[[nodiscard]] tl::expected<Token, BadToken> read_datagram_token(Message expected,
                                                                std::span<const std::uint8_t> data);
/// Writes HELLO with its padding, or REPLY; returns the size, 0 where it does not fit `out` or
/// kMaxControl.
[[nodiscard]] std::size_t write_datagram_token(const Token& token, std::span<std::uint8_t> out);

/// PROOF, READY or MEET; a view into `data`.
struct TagMessage {
  Message message = Message::proof;
  CredentialType type = CredentialType::certificate;
  std::uint8_t flags = 0;
  std::span<const std::uint8_t, kTagSize> tag;
};
/// `in_datagram`: false for MEET in a SYN.
[[nodiscard]] tl::expected<TagMessage, BadToken> read_tag_message(
    Message expected, std::span<const std::uint8_t> data, bool in_datagram = true);
void write_tag_message(const TagMessage& message, std::span<std::uint8_t, kTagDatagram> out);

}  // namespace trireme::wire
