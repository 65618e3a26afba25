// SPDX-License-Identifier: Apache-2.0
// Policy decisions for the packet path: policy::evaluate() with a cache.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/named_peers.hpp"
#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::handshake {

[[nodiscard]] bool contains(const std::vector<policy::Prefix>& networks,
                            const policy::Address& address);

class Judge {
 public:
  /// For flows of one protocol (IANA number).
  explicit Judge(std::uint8_t protocol) : protocol_(protocol), remembered_(kRemembered) {}

  void set_policy(std::shared_ptr<const policy::Policy> policy);
  [[nodiscard]] const policy::Policy& policy() const { return *policy_; }

  /// Decides on a flow between a local workload and a remote identity, to `port` of the server.
  [[nodiscard]] policy::Decision labeled(const LocalIdentity& local, const RemoteIdentity& remote,
                                         bool local_is_client, std::uint16_t port);
  /// DNS names of peers; must outlive this object. Null: no peer has names.
  void set_named(const NamedPeers* named) { named_ = named; }
  /// Decides on a flow between a workload at this enforcement point and a peer that offered no
  /// proof, to `port` of the server.
  [[nodiscard]] policy::Decision unlabeled(const LocalIdentity& local, std::uint32_t point,
                                           const policy::Address& peer, bool local_is_client,
                                           std::uint16_t port) const;

 private:
  static constexpr std::size_t kRemembered = 4096;
  struct Remembered {
    policy::Number local = 0;  // 0: empty
    policy::Number remote = 0;
    std::uint16_t port = 0;
    bool local_is_client = false;
    credentials::Digest labels{};
    credentials::Digest remote_labels{};
    policy::Decision decision;
  };
  std::uint8_t protocol_;
  std::shared_ptr<const policy::Policy> policy_;
  std::optional<policy::NameIndex> index_;
  const NamedPeers* named_ = nullptr;
  /// By hash of the key. A new entry replaces the one in its slot.
  std::vector<Remembered> remembered_;
};

}  // namespace trireme::handshake
