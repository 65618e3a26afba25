// SPDX-License-Identifier: Apache-2.0
// Writes rules into a batch: sequences of rules that several chains share, and the functions that
// write the parts of table inet trireme.
#pragma once

#include "rules.hpp"

namespace trireme::datapath {

/// Name of a chain that exists once for each level of the cgroup hierarchy.
[[nodiscard]] std::string at(const std::string& chain, std::uint32_t level);

class Writer {
 public:
  Writer(kernel::NftBatch& batch, const Layout& layout) : batch_(batch), layout_(layout) {}

  [[nodiscard]] const Layout& layout() const { return layout_; }
  /// The last level that a lookup of a packet's socket tries; 0 is the owner of the namespace.
  [[nodiscard]] std::uint32_t last_level() const { return layout_.owned ? 0 : 1; }

  void rule(const std::string& chain, kernel::NftRule&& rule) { batch_.add_rule(chain, rule); }

  /// Calls `rules` for both families, for addresses with and without a DNS name, and all of that
  /// twice. Identifiers of two policies are disjoint, so if a commit happens between two lookups of
  /// a packet, the second lookup fails. The repetition then judges the packet by the new policy
  /// alone: no packet is allowed or refused by a mixture of two policies.
  template <typename Rules>
  void twice(const Rules& rules) {
    for (int look = 0; look < 2; look++) {
      for (const bool named : {true, false}) {
        rules(std::uint8_t{NFPROTO_IPV4}, named);
        rules(std::uint8_t{NFPROTO_IPV6}, named);
      }
    }
  }

  /// The first rules of `output` and `input`: the most frequent packets.
  void first_rules(const std::string& chain);
  /// Rules for everything but UDP that passes, or goes to the verifier, without a lookup of
  /// sockets.
  void without_lookup(const std::string& chain);
  /// Goes to `handler` if the packet's socket belongs to a cgroup enrolled at `level`, else to the
  /// chain of the next level up; after the last level to `none`.
  void dispatch(const std::string& chain, std::uint32_t level, const std::string& handler,
                const std::string& none);
  /// Sends replies to `to`: those of authorized UDP flows, and of TCP flows without a verdict.
  void replies(const std::string& chain, const std::string& to);
  /// Logs a refusal (once in 5 s). Drops silently if an endpoint is quarantined, refuses otherwise.
  void refusals(const std::string& chain, const End& source, const End& destination);
  /// Reports a flow that is authorized and has not been logged, at a bounded rate (chain "sample").
  void sample(const std::string& chain);
  /// Accepts packets without a workload at either end, and sets abi::kExempt so that the rest of
  /// the connection passes at once.
  void exempt(const std::string& chain);
  /// Sends a TCP connection request to the verifier: sets abi::kToken and the workload's number in
  /// the flow's label, writes the number to the packet's priority, and queues it. `rule` matches
  /// the packet; `translated`: NAT changed its destination.
  void ask(const std::string& chain, kernel::NftRule rule, const End& workload,
           bool workload_is_source, bool translated);
  /// Like ask(), on a flow that already has a verdict. Its SYN-ACK, if there is one, goes to the
  /// verifier as well, which refuses it.
  void ask_again(const std::string& chain, kernel::NftRule rule, const End& workload);
  /// Sends strays whose peer is a speaker to the verifier, which knows the proved connections that
  /// conntrack has forgotten (idle, half closed or flushed).
  void ask_about_strays(const std::string& chain, const End& workload, bool outgoing);
  /// Like ask(), for the first datagram of a flow; `flags` are those of abi/abi.hpp.
  void ask_for_datagrams(const std::string& chain, kernel::NftRule rule, const End& workload,
                         bool workload_is_source, std::uint32_t flags);

 private:
  kernel::NftBatch& batch_;
  const Layout& layout_;
};

/// Prepares packets before the hooks that judge: removes forged stamps, and TIME_WAIT sockets that
/// would hide a listener from the lookup.
void write_prerouting(Writer& writer);
/// Judges packets that leave for other hosts or network namespaces.
void write_output(Writer& writer);
/// Judges packets that arrive: on lo by the numbers of both endpoints, on other devices by the
/// receiver's number and the remote address.
void write_input(Writer& writer);
/// Sends answers of name servers to the daemon.
void write_answers(Writer& writer);
inline constexpr const char* kAnswersHook = "input_answers";
void add_answers_hook(kernel::NftBatch& batch);
void add_answer_chains(kernel::NftBatch& batch, const Layout& layout);
/// Sends packets to the verifier and applies its rulings.
void write_tokens(Writer& writer);
/// UDP between enforcement points: the first rules of the chains for sockets at `level`.
void write_datagrams_out(Writer& writer, std::uint32_t level);
void write_datagrams_in(Writer& writer, std::uint32_t level);
/// The same for sockets of unlabeled processes.
void write_datagrams_of_host(Writer& writer);
/// Accepts datagrams of authorized flows before dispatch(), to save them a second lookup of their
/// socket.
void write_settled(Writer& writer, const std::string& chain, std::uint32_t level, bool outgoing);
/// Rules for the verifier's own datagrams, for ICMP errors that cause a renewal, and for datagrams
/// that waited in the queue.
void write_datagrams(Writer& writer);
void add_datagram_chains(kernel::NftBatch& batch, const Layout& layout);
/// The chains of write_tokens(), and the elements of their verdict maps.
void add_token_chains(kernel::NftBatch& batch, const Layout& layout);
void write_token_elements(kernel::NftBatch& batch, const Layout& layout);

}  // namespace trireme::datapath
