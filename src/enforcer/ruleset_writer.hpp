// SPDX-License-Identifier: Apache-2.0
// Writes rules into a batch: what several chains of table inet trireme have in common, and the
// parts that make the table.
#pragma once

#include "ruleset_rules.hpp"

namespace trireme::enforcer {

/// Chains that exist once for each level of the cgroup hierarchy.
[[nodiscard]] std::string at(const std::string& chain, std::uint32_t level);

class Writer {
 public:
  Writer(kernel::NftBatch& batch, const Layout& layout) : batch_(batch), layout_(layout) {}

  [[nodiscard]] const Layout& layout() const { return layout_; }
  /// The level that a look-up of sockets ends with: 0 stands for the owner of the namespace.
  [[nodiscard]] std::uint32_t last_level() const { return layout_.owned ? 0 : 1; }

  void rule(const std::string& chain, kernel::NftRule&& rule) { batch_.add_rule(chain, rule); }

  /// Calls `rules` for both families, for addresses that have a name and for those that have none,
  /// twice over. Identifiers of two policies are disjoint, so a packet that a commit overtakes
  /// between two look-ups misses; its second look meets the new policy alone. Nothing is allowed by
  /// half a policy, and nothing is refused by one.
  template <typename Rules>
  void twice(const Rules& rules) {
    for (int look = 0; look < 2; look++) {
      for (const bool named : {true, false}) {
        rules(std::uint8_t{NFPROTO_IPV4}, named);
        rules(std::uint8_t{NFPROTO_IPV6}, named);
      }
    }
  }

  /// What every packet meets first, on OUTPUT and on INPUT: what most packets are is looked at
  /// before anything else.
  void most(const std::string& chain);
  /// What passes without its sockets, or goes to the verifier, of all but datagrams.
  void riders(const std::string& chain);
  /// Goes to `handler` where the packet's socket belongs to a cgroup enrolled at `level`, else on
  /// to the next level up.
  void dispatch(const std::string& chain, std::uint32_t level, const std::string& handler,
                const std::string& none);
  /// Replies of UDP flows that were authorised, and segments of TCP flows that carry no bit yet.
  void replies(const std::string& chain, const std::string& to);
  /// Logs a refusal once, drops silently where an end is quarantined, refuses otherwise.
  void refusals(const std::string& chain, const End& source, const End& destination);
  /// No workload at either end: remembered, so that the rest of the connection passes at once.
  void exempt(const std::string& chain);
  /// A request for a connection that the verifier takes part in: marks the flow, names the workload
  /// on the packet, asks. `ends` has matched the packet; `remote_is_source` tells which end the
  /// workload is not.
  void ask(const std::string& chain, kernel::NftRule rule, const End& workload,
           bool workload_is_source, bool translated);
  /// The same on a flow that is authorised, or exempt, already: its SYN-ACK, if there is one, comes
  /// to the verifier, who refuses it.
  void ask_again(const std::string& chain, kernel::NftRule rule, const End& workload);
  /// A segment within a connection that nothing is known of, with an address from where tokens are
  /// expected: conntrack forgets what is idle, half closed or flushed, and the verifier knows what
  /// was proved.
  void ask_about_strays(const std::string& chain, const End& workload, bool outgoing);
  /// The same for the first datagram of a flow; `flags` are those of handshake/codes.hpp.
  void ask_for_datagrams(const std::string& chain, kernel::NftRule rule, const End& workload,
                         bool workload_is_source, std::uint32_t flags);

 private:
  kernel::NftBatch& batch_;
  const Layout& layout_;
};

/// Before the hooks that judge: what their look-ups of sockets and of the packet's priority rely
/// on.
void write_prerouting(Writer& writer);
/// Judges what leaves for other hosts; on lo the sender's number is put on the packet.
void write_output(Writer& writer);
/// Judges what arrives, from lo by both ends, from elsewhere by the receiver.
void write_input(Writer& writer);
/// The way of name servers' answers to the daemon that reads them.
void write_answers(Writer& writer);
inline constexpr const char* kAnswersHook = "input_answers";
void add_answers_hook(kernel::NftBatch& batch);
void add_answer_chains(kernel::NftBatch& batch, const Layout& layout);
/// The way to the verifier and back, and what it rules.
void write_tokens(Writer& writer);
/// UDP between enforcement points: what the chains that judge by a socket at `level` begin with.
void write_datagrams_out(Writer& writer, std::uint32_t level);
void write_datagrams_in(Writer& writer, std::uint32_t level);
/// The same for sockets that are no workload's.
void write_datagrams_of_host(Writer& writer);
/// Datagrams of authorised flows: ahead of the look-up that leads to those chains, which would be
/// their second.
void write_settled(Writer& writer, const std::string& chain, std::uint32_t level, bool outgoing);
/// The verifier's own datagrams, what tells it that a flow must be renewed, and the way of
/// datagrams that waited.
void write_datagrams(Writer& writer);
void add_datagram_chains(kernel::NftBatch& batch, const Layout& layout);
/// Its chains and the elements of its verdict maps.
void add_token_chains(kernel::NftBatch& batch, const Layout& layout);
void write_token_elements(kernel::NftBatch& batch, const Layout& layout);

}  // namespace trireme::enforcer
