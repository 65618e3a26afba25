// What the handshakes of TCP and of UDP have alike: who talks to whom, and what was said.
#pragma once

#include <memory>

#include "flow_key.hpp"
#include "peer_cache.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

struct Conversation {
  FlowKey key;
  Milliseconds since{};                             // when it came on its list
  std::shared_ptr<const credentials::Trust> trust;  // whose credential of ours is in use
  wire::CredentialType type = wire::CredentialType::local;
  std::shared_ptr<const LocalIdentity> local;
  std::shared_ptr<const RemoteIdentity> remote;  // number 0 until it was proved
  /// As `trust` verified it: an identity that was proved earlier holds the secret shared with an
  /// earlier key of ours.
  std::shared_ptr<const credentials::Peer> peer;
  Nonce client_nonce{};
  Nonce server_nonce{};
  Digest hello{};  // T1
  Tag proof{};     // server: expected; client: sent
  // What packets of our own are like.
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  std::uint32_t flow_label = 0;
  std::uint8_t traffic_class = 0;
  bool translated = false;
};

/// What a HELLO's credential and labels are worth to its server. A refusal that is `silent` is
/// dropped: an honest client repeats its HELLO.
struct Claim {
  Reason refusal = Reason::none;
  bool silent = false;
  std::string detail;
  std::shared_ptr<const credentials::Peer> peer;
  std::shared_ptr<const RemoteIdentity> remote;
};
[[nodiscard]] Claim examine(const wire::Token& hello, const policy::Address& source,
                            PeerCache& peers, Budget& budget, const Now& now);

/// The server's part begins.
void begin(Conversation& conversation, const wire::Token& hello, const Claim& claim,
           std::shared_ptr<const LocalIdentity> local,
           std::shared_ptr<const credentials::Trust> trust);

}  // namespace trireme::handshake
