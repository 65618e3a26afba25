// SPDX-License-Identifier: Apache-2.0
// Binds a handshake to its flow. Otherwise a neighbor that relays tokens could use the labels of
// their sender. REPLY names the server's address and port as its client asked for them; PROOF names
// the client's as they leave its host. NAT on either host is resolved through conntrack; NAT by a
// third machine must be declared ([host] nat).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conversation.hpp"
#include "trireme/handshake/facts.hpp"

namespace trireme::handshake {

/// The endpoints of the flow; the source is the client.
[[nodiscard]] wire::Ends ends_of_client(const FlowKey& key);
/// The translation of the packet's flow, if it is known without asking the kernel.
[[nodiscard]] std::optional<Translation> known_translation(const FlowKey& key,
                                                           const PacketFacts& facts);
/// The question to ask the kernel otherwise. `protocol` is the IANA number, `priority` the
/// packet's.
[[nodiscard]] Question about_translation(std::uint8_t protocol, const FlowKey& key,
                                         std::uint32_t priority);

[[nodiscard]] EndBytes end_bytes(const policy::SocketAddress& end);
/// "10.0.0.1:80".
[[nodiscard]] std::string end_text(Bytes end);

/// Server: stores the endpoints that REPLY and PROOF must name. `host_nat`: [host] nat.
void bind_server(Conversation& conversation, const Translation& flow,
                 const std::vector<policy::Prefix>& host_nat);
/// Server: writes the first kReplyStart bytes of the text that REPLY seals.
void write_reply_start(const Conversation& conversation, std::span<std::uint8_t> text);
/// Server: computes the PROOF to expect for the REPLY with this tag. With NAT on this host, two
/// values are valid.
void expect_proof(Conversation& conversation, PairKeys& keys, const Tag& reply);
/// Server: true if PROOF is one of the expected values.
[[nodiscard]] bool proves(const Conversation& conversation, Bytes proof);

/// Client: true if REPLY is about the flow that the client asked for. `text` is the text that REPLY
/// seals.
[[nodiscard]] bool is_asked(const Conversation& conversation, Bytes text, const Translation& flow,
                            const std::vector<policy::Prefix>& host_nat);
/// Client: the endpoint that PROOF must name.
[[nodiscard]] EndBytes client_end(Bytes text, const Translation& flow);

}  // namespace trireme::handshake
