// SPDX-License-Identifier: Apache-2.0
// nftables through libnftnl: a transaction of table, chains, sets, rules and elements. Thin: no
// decision is made here.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/kernel/queue.hpp"

struct mnl_socket;
struct nftnl_rule;
struct nftnl_expr;

namespace trireme::kernel {

/// nft's data type numbers (nftables src/datatype.h), so that `nft list ruleset` can read our sets.
/// Concatenations pack them 6 bits each.
enum class SetType : std::uint32_t {
  verdict = 0xffffff00,  // kernel constant for verdict maps
  nfproto = 2,
  integer = 4,
  ipv4_addr = 7,
  ipv6_addr = 8,
  inet_proto = 12,
  inet_service = 13,
  mark = 19,
  icmpv6_type = 29,
};

/// A verdict of a rule or of a verdict map's element; `chain` for jump and go_to.
struct NftVerdict {
  enum class Code : std::int32_t { drop = 0, accept = 1, jump = -3, go_to = -4, ret = -5 };
  Code code = Code::drop;
  std::string chain;
};

/// Key or data bytes of an element, in the byte order that the rules compare in (numbers of our
/// own: host order; ports and addresses: network).
class NftBytes {
 public:
  static constexpr std::size_t kCapacity = 40;
  NftBytes() = default;
  [[nodiscard]] static NftBytes u32(std::uint32_t value) { return NftBytes().add_u32(value); }
  [[nodiscard]] static NftBytes u64(std::uint64_t value);
  /// One byte, unpadded: for one-byte keys and masks.
  [[nodiscard]] static NftBytes u8(std::uint8_t value) { return NftBytes().add_raw({&value, 1}); }
  /// Two bytes, unpadded, big endian: a port that is compared.
  [[nodiscard]] static NftBytes be16(std::uint16_t value);
  NftBytes& add_u32(std::uint32_t value);
  /// What NftRule::map expects.
  [[nodiscard]] static NftBytes twice(std::uint32_t value) { return u32(value).add_u32(value); }
  /// Big endian 16 bits, padded to a register.
  NftBytes& add_be16(std::uint16_t value);
  /// One byte, padded to a register.
  NftBytes& add_u8(std::uint8_t value);
  NftBytes& add_raw(std::span<const std::uint8_t> bytes);
  [[nodiscard]] std::span<const std::uint8_t> view() const { return {bytes_.data(), size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }
  bool operator==(const NftBytes& other) const;

 private:
  std::array<std::uint8_t, kCapacity> bytes_{};
  std::size_t size_ = 0;
};

struct NftSet {
  std::string name;
  std::vector<SetType>
      key_types;  // a concatenation where there is more than one: each padded to 4 bytes
  std::uint32_t key_size = 4;       // bytes, the whole key
  std::vector<SetType> data_types;  // of a map; several: a concatenation
  std::uint32_t data_size = 0;      // bytes; ignored for verdicts
  bool interval = false;  // one type: a start and an end element each; several: key..key_end
  std::uint64_t dynamic_timeout_ms = 0;  // > 0: packets add elements that live this long
  bool dynamic = false;                  // packets add elements that stay
  bool timeouts = false;                 // elements have a timeout each
  std::uint32_t size = 0;                // 0: unlimited
};

struct NftElement {
  NftBytes key;
  NftBytes key_end{};         // intervals of concatenations: the last value, included
  bool interval_end = false;  // plain intervals: the first address after one; has no data
  bool catch_all = false;     // no key: what no other element matches
  NftBytes data{};
  std::optional<NftVerdict> verdict{};
  std::chrono::milliseconds timeout{};  // 0: none
  std::string comment{};  // shown by `nft list`; at most 240 bytes: the kernel counts an element's
                          // parts in 8 bits
};

/// An element as the kernel has it.
struct NftListed {
  std::vector<std::uint8_t> key;
  std::chrono::milliseconds remaining{};  // until it ends; 0: no timeout
  std::string comment;
};

/// One rule, built expression by expression. Registers are the 4-byte ones, 0..15; wider values
/// take consecutive registers.
class NftRule {
 public:
  NftRule();
  ~NftRule();
  NftRule(NftRule&&) noexcept;
  NftRule& operator=(NftRule&&) noexcept;

  // Loads.
  NftRule& meta(std::uint32_t key, std::uint32_t reg);  // enum nft_meta_keys
  NftRule& payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                   std::uint32_t reg);                         // enum nft_payload_bases
  NftRule& ct(std::uint32_t key, std::uint32_t reg);           // enum nft_ct_keys
  NftRule& ct_original(std::uint32_t key, std::uint32_t reg);  // of the original direction's tuple
  NftRule& ct_reply(std::uint32_t key, std::uint32_t reg);     // of the reply direction's tuple
  NftRule& socket_level(std::uint32_t level, std::uint32_t reg);  // cgroup id, 8 bytes
  NftRule& socket(std::uint32_t key, std::uint32_t reg);          // enum nft_socket_keys
  /// RTN_LOCAL, RTN_UNICAST ... (linux/rtnetlink.h) of the packet's present destination address, by
  /// the routing tables.
  NftRule& fib_destination_type(std::uint32_t reg);
  /// One byte: whether IPsec applies to the packet's route. A packet without a route does not
  /// match.
  NftRule& route_is_ipsec(std::uint32_t reg);
  NftRule& immediate(std::uint32_t reg, const NftBytes& value);
  /// Looks a number up; the map stores it twice (NftBytes::twice) and it lands in data_reg - 1 and
  /// data_reg. Keys and comparisons take the second copy: nft 1.0.6 aborts on a key that it knows
  /// to come from a map (netlink_parse_concat_expr, a width of 0), so the second register is first
  /// loaded with `meta cpu`, which nft then shows in the value's place. Where no element matches,
  /// the rule ends. key_reg differs from both.
  NftRule& map(const std::string& set, std::uint32_t key_reg, std::uint32_t data_reg);
  NftRule& map_bytes(const std::string& set, std::uint32_t key_reg,
                     std::uint32_t data_reg);  // of any width, as they are stored
  NftRule& mask(std::uint32_t reg, const NftBytes& mask);
  /// reg = (reg & mask) ^ toggle; both of one size.
  NftRule& mask_toggle(std::uint32_t reg, const NftBytes& mask, const NftBytes& toggle);
  /// reg <<= bits, within 4 bytes in host order (Linux 5.6).
  NftRule& shift_left(std::uint32_t reg, std::uint32_t bits);
  /// reg = a hash of addresses and ports below `modulus`, the same in both directions of a flow;
  /// host order.
  NftRule& symmetric_hash(std::uint32_t reg, std::uint32_t modulus);
  /// Ends the rule where the TCP header has no such option. Uses register 15.
  NftRule& tcp_option(std::uint8_t kind);
  // Comparisons: a mismatch ends the rule.
  NftRule& equal(std::uint32_t reg, const NftBytes& value);
  NftRule& not_equal(std::uint32_t reg, const NftBytes& value);
  NftRule& at_most(std::uint32_t reg, const NftBytes& value);
  NftRule& in(const std::string& set, std::uint32_t reg);
  NftRule& not_in(const std::string& set, std::uint32_t reg);
  // Statements.
  NftRule& set_meta(std::uint32_t key, std::uint32_t reg);
  NftRule& set_ct(std::uint32_t key, std::uint32_t reg);
  NftRule& add_to(const std::string& set, std::uint32_t reg);
  NftRule& log(std::uint16_t group, const std::string& prefix);
  NftRule& tproxy(std::uint32_t family, std::uint32_t address_reg, std::uint32_t port_reg);
  // Ends.
  NftRule& vmap(const std::string& set, std::uint32_t reg);
  NftRule& verdict(const NftVerdict& verdict);
  NftRule& accept() { return verdict({NftVerdict::Code::accept, {}}); }
  NftRule& drop() { return verdict({NftVerdict::Code::drop, {}}); }
  NftRule& go_to(const std::string& chain) { return verdict({NftVerdict::Code::go_to, chain}); }
  NftRule& jump(const std::string& chain) { return verdict({NftVerdict::Code::jump, chain}); }
  /// Hands the packet to user space; without a listener it is dropped, or accepted where `bypass`
  /// says so. An accept there goes on with the next base chain of the hook.
  NftRule& queue(QueueMechanism mechanism, std::uint16_t number, bool bypass = false);
  NftRule& reject_tcp_reset();
  NftRule& reject_admin_prohibited();
  /// Shown by `nft list`; at most 120 bytes.
  NftRule& comment(const std::string& text);

 private:
  friend class NftBatch;
  nftnl_expr* append(const char* name);
  NftRule& ct_of(std::uint8_t direction, std::uint32_t key, std::uint32_t reg);
  struct Free {
    void operator()(nftnl_rule* rule) const;
  };
  std::unique_ptr<nftnl_rule, Free> rule_;
};

struct NftBaseChain {
  std::uint32_t hook = 0;  // enum nf_inet_hooks
  std::int32_t priority = 0;
};

/// Messages of one transaction, in order.
class NftBatch {
 public:
  explicit NftBatch(std::string table);
  ~NftBatch();
  NftBatch(NftBatch&&) noexcept;
  NftBatch& operator=(NftBatch&&) noexcept;

  /// Adds the inet table (no error where it exists).
  void add_table(const std::string& comment = {});
  void delete_table();
  void add_chain(const std::string& name, std::optional<NftBaseChain> base = std::nullopt);
  /// With its rules; nothing may jump to it.
  void delete_chain(const std::string& name);
  void add_set(const NftSet& set);
  void add_rule(const std::string& chain, const NftRule& rule);
  void add_elements(const NftSet& set, std::span<const NftElement> elements);
  void delete_elements(const NftSet& set, std::span<const NftElement> elements);
  void flush_set(const NftSet& set);
  [[nodiscard]] bool empty() const { return messages_ == 0; }

 private:
  friend class NftSocket;
  struct Buffer;
  void* begin(std::uint16_t type, std::uint16_t flags);
  void elements(std::uint16_t type, std::uint16_t flags, const NftSet& set,
                std::span<const NftElement> elements);
  std::string table_;
  std::unique_ptr<Buffer> buffer_;
  std::uint32_t messages_ = 0;
  std::uint32_t next_set_id_ = 1;
};

/// A netlink socket to nf_tables of the network namespace in which it was opened.
class NftSocket {
 public:
  [[nodiscard]] static Result<NftSocket> open();
  NftSocket(NftSocket&&) noexcept;
  NftSocket& operator=(NftSocket&&) noexcept;
  ~NftSocket();

  /// The old ruleset or the new, never half (docs: "replacement is atomic"). On error nothing has
  /// changed.
  [[nodiscard]] Status commit(NftBatch&& batch);
  /// The netlink address that NftWatch tells our own changes by.
  [[nodiscard]] std::uint32_t port() const;
  [[nodiscard]] Result<bool> table_exists(const std::string& table);
  /// The comment that add_table() gave it, empty without one; nullopt: there is no such table.
  [[nodiscard]] Result<std::optional<std::string>> table_comment(const std::string& table);
  /// Keys of all elements of a set, in no order.
  [[nodiscard]] Result<std::vector<std::vector<std::uint8_t>>> keys(const std::string& table,
                                                                    const std::string& set);
  /// All elements of a set, in no order; none where there is no such set.
  [[nodiscard]] Result<std::vector<NftListed>> list(const std::string& table,
                                                    const std::string& set);

 private:
  explicit NftSocket(mnl_socket* socket);
  [[nodiscard]] Result<std::vector<NftListed>> elements(const std::string& table,
                                                        const std::string& set);
  mnl_socket* socket_;
  std::uint32_t sequence_;
};

}  // namespace trireme::kernel
