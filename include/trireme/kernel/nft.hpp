// SPDX-License-Identifier: Apache-2.0
// nf_tables through libnftnl: transactions of tables, chains, sets, rules and elements. A thin
// layer that makes no decisions.
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

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/kernel/queue.hpp"

struct nftnl_rule;
struct nftnl_expr;

namespace trireme::kernel {

/// nft's data type numbers (nftables, include/datatype.h), so that `nft list ruleset` can decode
/// the sets. A concatenation packs them with 6 bits each.
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

/// The verdict of a rule or of an element of a verdict map. `chain` is only used by jump and go_to.
struct NftVerdict {
  enum class Code : std::int32_t { drop = 0, accept = 1, jump = -3, go_to = -4, ret = -5 };
  Code code = Code::drop;
  std::string chain;
};

/// Key or data bytes of an element, in the byte order in which rules compare them: host byte order
/// for trireme's numbers, network byte order for ports and addresses. A register has 4 bytes.
class NftBytes {
 public:
  static constexpr std::size_t kCapacity = 40;
  NftBytes() = default;
  [[nodiscard]] static NftBytes u32(std::uint32_t value) { return NftBytes().add_u32(value); }
  [[nodiscard]] static NftBytes u64(std::uint64_t value);
  /// One byte without padding, for one-byte keys and masks.
  [[nodiscard]] static NftBytes u8(std::uint8_t value) { return NftBytes().add_raw({&value, 1}); }
  /// Two bytes in network byte order without padding, to compare a port.
  [[nodiscard]] static NftBytes be16(std::uint16_t value);
  NftBytes& add_u32(std::uint32_t value);
  /// The value twice: the data format of NftRule::map().
  [[nodiscard]] static NftBytes twice(std::uint32_t value) { return u32(value).add_u32(value); }
  /// Appends two bytes in network byte order, padded to a register.
  NftBytes& add_be16(std::uint16_t value);
  /// Appends one byte, padded to a register.
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
  std::vector<SetType> key_types;   // several: a concatenation, each padded to 4 bytes
  std::uint32_t key_size = 4;       // bytes of the whole key
  std::vector<SetType> data_types;  // empty: a set, not a map; several: a concatenation
  std::uint32_t data_size = 0;      // bytes; ignored for verdicts
  bool interval = false;            // one key type: start and end elements; several: key..key_end
  std::uint64_t dynamic_timeout_ms = 0;  // > 0: rules add elements, which expire after this time
  bool dynamic = false;                  // rules add elements, which do not expire
  bool timeouts = false;                 // each element has its own timeout
  std::uint32_t size = 0;                // elements; 0: unlimited
};

struct NftElement {
  NftBytes key;
  NftBytes key_end{};         // intervals of concatenations: the last value, inclusive
  bool interval_end = false;  // plain intervals: the first value after the interval; has no data
  bool catch_all = false;     // has no key and matches what no other element matches
  NftBytes data{};
  std::optional<NftVerdict> verdict{};
  std::chrono::milliseconds timeout{};  // 0: none
  std::string comment{};  // shown by `nft list`; at most 240 bytes, because the kernel stores the
                          // offsets within an element in 8 bits
};

/// An element as listed by the kernel.
struct NftListed {
  std::vector<std::uint8_t> key;
  std::chrono::milliseconds remaining{};  // until it expires; 0: no timeout
  std::string comment;
};

/// One rule, built expression by expression. Registers are the 4-byte registers 0 to 15; wider
/// values take consecutive registers. Throws std::bad_alloc.
class NftRule {
 public:
  NftRule();
  ~NftRule();
  NftRule(NftRule&&) noexcept;
  NftRule& operator=(NftRule&&) noexcept;

  // Loads: read a property of the packet into a register.
  NftRule& meta(std::uint32_t key, std::uint32_t reg);  // enum nft_meta_keys
  NftRule& payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                   std::uint32_t reg);                            // enum nft_payload_bases
  NftRule& ct(std::uint32_t key, std::uint32_t reg);              // enum nft_ct_keys
  NftRule& ct_original(std::uint32_t key, std::uint32_t reg);     // original direction
  NftRule& ct_reply(std::uint32_t key, std::uint32_t reg);        // reply direction
  NftRule& socket_level(std::uint32_t level, std::uint32_t reg);  // cgroup id, 8 bytes
  NftRule& socket(std::uint32_t key, std::uint32_t reg);          // enum nft_socket_keys
  /// Loads the address type of the packet's current destination address according to the routing
  /// tables: RTN_LOCAL, RTN_UNICAST, ... (linux/rtnetlink.h).
  NftRule& fib_destination_type(std::uint32_t reg);
  /// Loads one byte: 1 if IPsec applies to the packet's route. The rule ends if the packet has no
  /// route.
  NftRule& route_is_ipsec(std::uint32_t reg);
  NftRule& immediate(std::uint32_t reg, const NftBytes& value);
  /// Looks up a number in a map that stores it twice (NftBytes::twice), into data_reg - 1 and
  /// data_reg. The rule ends if no element matches. key_reg must differ from both. Later keys and
  /// comparisons must use data_reg: nft 1.0.6 aborts when it lists a key that it knows to come from
  /// a map (netlink_parse_concat_expr, a width of 0). data_reg is therefore first loaded with `meta
  /// cpu`, which nft then shows in place of the value.
  NftRule& map(const std::string& set, std::uint32_t key_reg, std::uint32_t data_reg);
  /// Looks up data of any width, as stored in the map. The rule ends if no element matches.
  NftRule& map_bytes(const std::string& set, std::uint32_t key_reg, std::uint32_t data_reg);
  NftRule& mask(std::uint32_t reg, const NftBytes& mask);
  /// reg = (reg & mask) ^ toggle; mask and toggle have the same size.
  NftRule& mask_toggle(std::uint32_t reg, const NftBytes& mask, const NftBytes& toggle);
  /// reg <<= bits, on 4 bytes in host byte order (Linux 5.6).
  NftRule& shift_left(std::uint32_t reg, std::uint32_t bits);
  /// reg = a hash of addresses and ports modulo `modulus`, in host byte order; the same in both
  /// directions of a flow.
  NftRule& symmetric_hash(std::uint32_t reg, std::uint32_t modulus);
  /// Ends the rule if the TCP header has no option of this kind. Overwrites register 15.
  NftRule& tcp_option(std::uint8_t kind);
  // Comparisons: a mismatch ends the rule.
  NftRule& equal(std::uint32_t reg, const NftBytes& value);
  NftRule& not_equal(std::uint32_t reg, const NftBytes& value);
  NftRule& at_most(std::uint32_t reg, const NftBytes& value);
  NftRule& in(const std::string& set, std::uint32_t reg);
  NftRule& not_in(const std::string& set, std::uint32_t reg);
  /// Ends the rule for packets beyond `rate` a second, after a burst of `burst`, with the same key.
  /// One counter for all processors in each element of a dynamic set (NftSet::dynamic_timeout_ms).
  /// A key that is not in the set is added, and removed once it was not used for the set's timeout.
  /// Ends the rule for new keys if the set is full. The limit of an element is that of the rule
  /// that added it.
  NftRule& limit_each(const std::string& set, std::uint32_t reg, std::uint32_t rate,
                      std::uint32_t burst);
  // Statements: change the packet, its conntrack entry or a set.
  NftRule& set_meta(std::uint32_t key, std::uint32_t reg);
  NftRule& set_ct(std::uint32_t key, std::uint32_t reg);
  NftRule& add_to(const std::string& set, std::uint32_t reg);
  NftRule& log(std::uint16_t group, const std::string& prefix);
  NftRule& tproxy(std::uint32_t family, std::uint32_t address_reg, std::uint32_t port_reg);
  // Verdicts.
  NftRule& vmap(const std::string& set, std::uint32_t reg);
  NftRule& verdict(const NftVerdict& verdict);
  NftRule& accept() { return verdict({NftVerdict::Code::accept, {}}); }
  NftRule& drop() { return verdict({NftVerdict::Code::drop, {}}); }
  NftRule& go_to(const std::string& chain) { return verdict({NftVerdict::Code::go_to, chain}); }
  NftRule& jump(const std::string& chain) { return verdict({NftVerdict::Code::jump, chain}); }
  /// Passes the packet to user space. Without a listener the packet is dropped, or accepted if
  /// `bypass`. After an accept by user space, the next base chain of the hook follows.
  NftRule& queue(QueueMechanism mechanism, std::uint16_t number, bool bypass = false);
  NftRule& reject_tcp_reset();
  NftRule& reject_admin_prohibited();
  /// A comment that `nft list` shows; at most 120 bytes.
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

/// The messages of one transaction on one inet table, in order. Throws std::bad_alloc.
class NftBatch {
 public:
  explicit NftBatch(std::string table);
  ~NftBatch();
  NftBatch(NftBatch&&) noexcept;
  NftBatch& operator=(NftBatch&&) noexcept;

  /// Adds the table. An existing one is no error.
  void add_table(const std::string& comment = {});
  void delete_table();
  void add_chain(const std::string& name, std::optional<NftBaseChain> base = std::nullopt);
  /// Deletes the chain and its rules. No rule or element may jump to it.
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

/// A netlink socket to nf_tables of the network namespace in which open() was called.
class NftSocket {
 public:
  /// Errors: no netlink socket; CAP_NET_ADMIN is missing.
  [[nodiscard]] static Result<NftSocket> open();

  /// Commits the transaction atomically: packets see the old ruleset or the new one. After an error
  /// nothing has changed.
  [[nodiscard]] Status commit(NftBatch&& batch);
  /// The netlink port id of this socket, by which NftWatch recognizes this process' own changes.
  [[nodiscard]] std::uint32_t port() const { return port_; }
  [[nodiscard]] Result<bool> table_exists(const std::string& table);
  /// The comment of the table, empty if it has none; nullopt if there is no such table.
  [[nodiscard]] Result<std::optional<std::string>> table_comment(const std::string& table);
  /// The keys of all elements of a set, in no particular order. Errors: no such set.
  [[nodiscard]] Result<std::vector<std::vector<std::uint8_t>>> keys(const std::string& table,
                                                                    const std::string& set);
  /// All elements of a set, in no particular order; empty if there is no such set.
  [[nodiscard]] Result<std::vector<NftListed>> list(const std::string& table,
                                                    const std::string& set);

 private:
  NftSocket(Fd socket, std::uint32_t port) : socket_(std::move(socket)), port_(port) {}
  [[nodiscard]] Result<std::vector<NftListed>> elements(const std::string& table,
                                                        const std::string& set);
  Fd socket_;
  std::uint32_t port_;
};

}  // namespace trireme::kernel
