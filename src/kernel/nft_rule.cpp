// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_NFQUEUE.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "trireme/kernel/nft.hpp"

namespace trireme::kernel {

namespace {

constexpr std::uint32_t reg32(std::uint32_t reg) {
  return NFT_REG32_00 + reg;
}

constexpr std::uint32_t kPresentReg = 15;  // scratch register of tcp_option()

/// The kernel requires that the size of an xtables target is a multiple of 8 (XT_ALIGN).
struct alignas(8) QueueTarget {
  xt_NFQ_info_v3 info;
};
constexpr std::uint32_t kQueueTargetRevision = 3;

}  // namespace

NftBytes NftBytes::u64(std::uint64_t value) {
  NftBytes bytes;
  std::memcpy(bytes.bytes_.data(), &value, sizeof value);
  bytes.size_ = sizeof value;
  return bytes;
}

NftBytes NftBytes::be16(std::uint16_t value) {
  const std::array<std::uint8_t, 2> bytes = {static_cast<std::uint8_t>(value >> 8U),
                                             static_cast<std::uint8_t>(value & 0xffU)};
  return NftBytes().add_raw(bytes);
}

NftBytes& NftBytes::add_u32(std::uint32_t value) {
  std::memcpy(bytes_.data() + size_, &value, sizeof value);
  size_ += sizeof value;
  return *this;
}

NftBytes& NftBytes::add_be16(std::uint16_t value) {
  bytes_.at(size_) = static_cast<std::uint8_t>(value >> 8U);
  bytes_.at(size_ + 1) = static_cast<std::uint8_t>(value & 0xffU);
  size_ += 4;
  return *this;
}

NftBytes& NftBytes::add_u8(std::uint8_t value) {
  bytes_.at(size_) = value;
  size_ += 4;
  return *this;
}

NftBytes& NftBytes::add_raw(std::span<const std::uint8_t> bytes) {
  std::memcpy(bytes_.data() + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
  return *this;
}

bool NftBytes::operator==(const NftBytes& other) const {
  return size_ == other.size_ && std::memcmp(bytes_.data(), other.bytes_.data(), size_) == 0;
}

void NftRule::Free::operator()(nftnl_rule* rule) const {
  nftnl_rule_free(rule);
}

NftRule::NftRule() : rule_(nftnl_rule_alloc()) {
  if (!rule_) {
    throw std::bad_alloc();
  }
}
NftRule::~NftRule() = default;
NftRule::NftRule(NftRule&&) noexcept = default;
NftRule& NftRule::operator=(NftRule&&) noexcept = default;

nftnl_expr* NftRule::append(const char* name) {
  nftnl_expr* expr = nftnl_expr_alloc(name);
  if (expr == nullptr) {
    throw std::bad_alloc();
  }
  nftnl_rule_add_expr(rule_.get(), expr);
  return expr;
}

NftRule& NftRule::meta(std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("meta");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_META_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                          std::uint32_t reg) {
  nftnl_expr* expr = append("payload");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_LEN, length);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::ct(std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("ct");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::ct_of(std::uint8_t direction, std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("ct");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_DREG, reg32(reg));
  nftnl_expr_set_u8(expr, NFTNL_EXPR_CT_DIR, direction);
  return *this;
}

NftRule& NftRule::ct_original(std::uint32_t key, std::uint32_t reg) {
  return ct_of(0, key, reg);  // IP_CT_DIR_ORIGINAL
}

NftRule& NftRule::ct_reply(std::uint32_t key, std::uint32_t reg) {
  return ct_of(1, key, reg);  // IP_CT_DIR_REPLY
}

NftRule& NftRule::socket_level(std::uint32_t level, std::uint32_t reg) {
  nftnl_expr* expr = append("socket");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_CGROUPV2);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_LEVEL, level);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::socket(std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("socket");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_SOCKET_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::fib_destination_type(std::uint32_t reg) {
  nftnl_expr* expr = append("fib");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::route_is_ipsec(std::uint32_t reg) {
  nftnl_expr* expr = append("rt");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_RT_KEY, NFT_RT_XFRM);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_RT_DREG, reg32(reg));
  return *this;
}

NftRule& NftRule::immediate(std::uint32_t reg, const NftBytes& value) {
  nftnl_expr* expr = append("immediate");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, reg32(reg));
  nftnl_expr_set(expr, NFTNL_EXPR_IMM_DATA, value.view().data(),
                 static_cast<std::uint32_t>(value.size()));
  return *this;
}

NftRule& NftRule::map(const std::string& set, std::uint32_t key_reg, std::uint32_t data_reg) {
  meta(NFT_META_CPU, data_reg);
  return map_bytes(set, key_reg, data_reg - 1);
}

NftRule& NftRule::map_bytes(const std::string& set, std::uint32_t key_reg, std::uint32_t data_reg) {
  nftnl_expr* expr = append("lookup");
  nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, reg32(key_reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_DREG, reg32(data_reg));
  return *this;
}

NftRule& NftRule::mask(std::uint32_t reg, const NftBytes& mask) {
  const std::array<std::uint8_t, NftBytes::kCapacity> zeros{};
  NftBytes zero;
  zero.add_raw({zeros.data(), mask.size()});
  return mask_toggle(reg, mask, zero);
}

NftRule& NftRule::mask_toggle(std::uint32_t reg, const NftBytes& mask, const NftBytes& toggle) {
  const auto size = static_cast<std::uint32_t>(mask.size());
  nftnl_expr* expr = append("bitwise");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_SREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_DREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_LEN, size);
  nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_MASK, mask.view().data(), size);
  nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_XOR, toggle.view().data(), size);
  return *this;
}

NftRule& NftRule::shift_left(std::uint32_t reg, std::uint32_t bits) {
  nftnl_expr* expr = append("bitwise");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_SREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_DREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_LSHIFT);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_LEN, sizeof bits);
  nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_DATA, &bits, sizeof bits);
  return *this;
}

NftRule& NftRule::symmetric_hash(std::uint32_t reg, std::uint32_t modulus) {
  nftnl_expr* expr = append("hash");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_HASH_TYPE, NFT_HASH_SYM);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_HASH_DREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_HASH_MODULUS, modulus);
  return *this;
}

NftRule& NftRule::tcp_option(std::uint8_t kind) {
  nftnl_expr* expr = append("exthdr");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
  nftnl_expr_set_u8(expr, NFTNL_EXPR_EXTHDR_TYPE, kind);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_OFFSET, 0);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_LEN, 1);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_DREG, reg32(kPresentReg));
  return equal(kPresentReg, NftBytes::u8(1));
}

namespace {

void compare(nftnl_expr* expr, std::uint32_t reg, std::uint32_t op, const NftBytes& value) {
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_SREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_OP, op);
  nftnl_expr_set(expr, NFTNL_EXPR_CMP_DATA, value.view().data(),
                 static_cast<std::uint32_t>(value.size()));
}

}  // namespace

NftRule& NftRule::equal(std::uint32_t reg, const NftBytes& value) {
  compare(append("cmp"), reg, NFT_CMP_EQ, value);
  return *this;
}

NftRule& NftRule::not_equal(std::uint32_t reg, const NftBytes& value) {
  compare(append("cmp"), reg, NFT_CMP_NEQ, value);
  return *this;
}

NftRule& NftRule::at_most(std::uint32_t reg, const NftBytes& value) {
  compare(append("cmp"), reg, NFT_CMP_LTE, value);
  return *this;
}

NftRule& NftRule::in(const std::string& set, std::uint32_t reg) {
  nftnl_expr* expr = append("lookup");
  nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, reg32(reg));
  return *this;
}

NftRule& NftRule::not_in(const std::string& set, std::uint32_t reg) {
  nftnl_expr* expr = append("lookup");
  nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  return *this;
}

NftRule& NftRule::limit_each(const std::string& set, std::uint32_t reg, std::uint32_t rate,
                             std::uint32_t burst) {
  nftnl_expr* expr = append("dynset");
  nftnl_expr_set_str(expr, NFTNL_EXPR_DYNSET_SET_NAME, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_SREG_KEY, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
  nftnl_expr* each = nftnl_expr_alloc("limit");
  if (each == nullptr) {
    throw std::bad_alloc();
  }
  nftnl_expr_set_u64(each, NFTNL_EXPR_LIMIT_RATE, rate);
  nftnl_expr_set_u64(each, NFTNL_EXPR_LIMIT_UNIT, 1);  // second
  nftnl_expr_set_u32(each, NFTNL_EXPR_LIMIT_BURST, burst);
  nftnl_expr_set_u32(each, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
  nftnl_expr_set(expr, NFTNL_EXPR_DYNSET_EXPR, each, 0);  // which frees it
  return *this;
}

NftRule& NftRule::set_meta(std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("meta");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_META_SREG, reg32(reg));
  return *this;
}

NftRule& NftRule::set_ct(std::uint32_t key, std::uint32_t reg) {
  nftnl_expr* expr = append("ct");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_SREG, reg32(reg));
  return *this;
}

NftRule& NftRule::add_to(const std::string& set, std::uint32_t reg) {
  nftnl_expr* expr = append("dynset");
  nftnl_expr_set_str(expr, NFTNL_EXPR_DYNSET_SET_NAME, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_SREG_KEY, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
  return *this;
}

NftRule& NftRule::log(std::uint16_t group, const std::string& prefix) {
  nftnl_expr* expr = append("log");
  nftnl_expr_set_u16(expr, NFTNL_EXPR_LOG_GROUP, group);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOG_SNAPLEN, 128);
  nftnl_expr_set_str(expr, NFTNL_EXPR_LOG_PREFIX, prefix.c_str());
  return *this;
}

NftRule& NftRule::tproxy(std::uint32_t family, std::uint32_t address_reg, std::uint32_t port_reg) {
  nftnl_expr* expr = append("tproxy");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_TPROXY_FAMILY, family);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_TPROXY_REG_ADDR, reg32(address_reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_TPROXY_REG_PORT, reg32(port_reg));
  return *this;
}

NftRule& NftRule::vmap(const std::string& set, std::uint32_t reg) {
  nftnl_expr* expr = append("lookup");
  nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, reg32(reg));
  nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
  return *this;
}

NftRule& NftRule::verdict(const NftVerdict& verdict) {
  nftnl_expr* expr = append("immediate");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(verdict.code));
  if (!verdict.chain.empty()) {
    nftnl_expr_set_str(expr, NFTNL_EXPR_IMM_CHAIN, verdict.chain.c_str());
  }
  return *this;
}

NftRule& NftRule::queue(QueueMechanism mechanism, std::uint16_t number, bool bypass) {
  if (mechanism == QueueMechanism::native) {
    nftnl_expr* expr = append("queue");
    nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_NUM, number);
    nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_TOTAL, 1);
    if (bypass) {
      nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_FLAGS, NFT_QUEUE_FLAG_BYPASS);
    }
    return *this;
  }
  nftnl_expr* expr = append("target");
  auto* target =
      static_cast<QueueTarget*>(std::calloc(1, sizeof(QueueTarget)));  // the expression frees it
  if (target == nullptr) {
    throw std::bad_alloc();
  }
  target->info.queuenum = number;
  target->info.queues_total = 1;
  target->info.flags = bypass ? NFQ_FLAG_BYPASS : 0;
  nftnl_expr_set_str(expr, NFTNL_EXPR_TG_NAME, "NFQUEUE");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_TG_REV, kQueueTargetRevision);
  nftnl_expr_set(expr, NFTNL_EXPR_TG_INFO, target, sizeof *target);
  return *this;
}

NftRule& NftRule::comment(const std::string& text) {
  // User data in nft's format: type 0 (comment), length, text with its NUL.
  std::string data;
  data += '\0';
  data += static_cast<char>(text.size() + 1);
  data += text;
  data += '\0';
  nftnl_rule_set_data(rule_.get(), NFTNL_RULE_USERDATA, data.data(),
                      static_cast<std::uint32_t>(data.size()));
  return *this;
}

NftRule& NftRule::reject_tcp_reset() {
  nftnl_expr* expr = append("reject");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
  nftnl_expr_set_u8(expr, NFTNL_EXPR_REJECT_CODE, 0);
  return *this;
}

NftRule& NftRule::reject_admin_prohibited() {
  nftnl_expr* expr = append("reject");
  nftnl_expr_set_u32(expr, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
  nftnl_expr_set_u8(expr, NFTNL_EXPR_REJECT_CODE, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
  return *this;
}

}  // namespace trireme::kernel
