// SPDX-License-Identifier: Apache-2.0
// Which flow a handshake is about. A token that a neighbour relays would else speak for its
// maker: REPLY names the server's address and port as its client asked for them, and PROOF the
// client's as it left its host. Address translation on either host is looked through; by a third
// machine it has to be declared ([host] nat).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conversation.hpp"
#include "trireme/handshake/facts.hpp"

namespace trireme::handshake {

/// The flow's ends as its client sends.
[[nodiscard]] wire::Ends ends_of_client(const FlowKey& key);
/// Of the flow that the packet with these facts belongs to. None: the kernel has to be asked.
[[nodiscard]] std::optional<Translation> known_translation(const FlowKey& key,
                                                           const PacketFacts& facts);
/// What it is to be asked. `protocol` is IANA's number, `priority` the packet's.
[[nodiscard]] Question about_translation(std::uint8_t protocol, const FlowKey& key,
                                         std::uint32_t priority);

[[nodiscard]] EndBytes end_bytes(const policy::SocketAddress& end);
/// "10.0.0.1:80".
[[nodiscard]] std::string end_text(Bytes end);

/// The server's part, for the length of the handshake. `translated`: [host] nat.
void bind_server(Conversation& conversation, const Translation& flow,
                 const std::vector<policy::Prefix>& translated);
/// Writes the first kReplyStart bytes of what REPLY seals.
void write_reply_start(const Conversation& conversation, std::span<std::uint8_t> text);
/// What PROOF of this server's client has to be, for the REPLY with this tag; with NAT on this host
/// either of two.
void expect_proof(Conversation& conversation, PairKeys& keys, const Tag& reply);
[[nodiscard]] bool proves(const Conversation& conversation, Bytes proof);

/// The client's part: whether REPLY, of which `text` is what it seals, is about the flow that was
/// asked for.
[[nodiscard]] bool is_asked(const Conversation& conversation, Bytes text, const Translation& flow,
                            const std::vector<policy::Prefix>& translated);
/// What PROOF has to name.
[[nodiscard]] EndBytes client_end(Bytes text, const Translation& flow);

}  // namespace trireme::handshake
