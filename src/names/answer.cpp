// SPDX-License-Identifier: Apache-2.0
#include "trireme/names/answer.hpp"

#include <arpa/nameser.h>
#include <resolv.h>

#include <algorithm>
#include <map>
#include <unordered_map>

namespace trireme::names {
namespace {

using std::chrono::seconds;

/// Size in bytes of a name in presentation format, including its NUL.
constexpr std::size_t kNameText = NS_MAXDNAME;

/// The name in lower case without final dot. Empty if it has a character that host names cannot
/// have, such as an escaped one: "a\.b" is one label, not a name below "b".
std::string host_name(const char* text) {
  std::string name(text);
  while (!name.empty() && name.back() == '.') {
    name.pop_back();
  }
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') {
      c = static_cast<char>(c - 'A' + 'a');
    }
    if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.') {
      return {};
    }
  }
  return name;
}

/// The TTL, which has 31 bits; a value with the highest bit set counts as 0 (RFC 2181, section 8).
seconds ttl_of(const ns_rr& record) {
  return seconds(ns_rr_ttl(record) > 0x7fffffffU ? 0U : ns_rr_ttl(record));
}

/// The records of the answer section by owner name. libresolv checks the bounds of each record and
/// the compression of each name.
struct Records {
  struct Alias {
    std::string target;
    seconds ttl{};
  };
  std::unordered_map<std::string, Alias> aliases;
  std::multimap<std::string, ResolvedAddress> addresses;

  void add(const ns_msg& message, const ns_rr& record) {
    if (ns_rr_class(record) != ns_c_in) {
      return;
    }
    std::string owner = host_name(ns_rr_name(record));
    if (owner.empty()) {
      return;
    }
    if (ns_rr_type(record) == ns_t_cname) {
      char target[kNameText];
      if (::dn_expand(ns_msg_base(message), ns_msg_end(message), ns_rr_rdata(record), target,
                      sizeof target) >= 0) {
        aliases.try_emplace(std::move(owner), Alias{host_name(target), ttl_of(record)});
      }
      return;
    }
    ResolvedAddress resolved;
    resolved.ttl = ttl_of(record);
    resolved.address.family =
        ns_rr_type(record) == ns_t_a ? policy::Address::Family::v4 : policy::Address::Family::v6;
    const bool is_address = ns_rr_type(record) == ns_t_a || ns_rr_type(record) == ns_t_aaaa;
    if (is_address && ns_rr_rdlen(record) == resolved.address.size()) {
      std::copy_n(ns_rr_rdata(record), resolved.address.size(), resolved.address.bytes.begin());
      addresses.emplace(std::move(owner), resolved);
    }
  }
};

/// Follows the aliases of the name and returns the addresses at their end.
std::vector<ResolvedAddress> follow(const Records& records, std::string name) {
  seconds least = seconds::max();
  for (std::size_t hops = 0; hops < kMostAliases; hops++) {
    const auto alias = records.aliases.find(name);
    if (alias == records.aliases.end()) {
      break;
    }
    least = std::min(least, alias->second.ttl);
    name = alias->second.target;
  }
  std::vector<ResolvedAddress> result;
  const auto [first, last] = records.addresses.equal_range(name);
  std::for_each(first, last, [&](const auto& record) {
    result.push_back({record.second.address, std::min(least, record.second.ttl)});
  });
  return result;
}

std::optional<std::string> question(ns_msg& message) {
  ns_rr record{};
  const bool answers =
      ns_msg_getflag(message, ns_f_qr) == 1 && ns_msg_getflag(message, ns_f_opcode) == ns_o_query &&
      ns_msg_getflag(message, ns_f_rcode) == ns_r_noerror && ns_msg_count(message, ns_s_qd) == 1;
  if (!answers || ::ns_parserr(&message, ns_s_qd, 0, &record) != 0 ||
      ns_rr_class(record) != ns_c_in) {
    return std::nullopt;
  }
  std::string name = host_name(ns_rr_name(record));
  return name.empty() ? std::nullopt : std::optional(std::move(name));
}

}  // namespace

std::optional<Answer> read_answer(std::span<const std::uint8_t> bytes) {
  ns_msg message{};
  // ns_initparse() walks all sections and fails if the message does not match its counts.
  if (bytes.size() > NS_MAXMSG ||
      ::ns_initparse(bytes.data(), static_cast<int>(bytes.size()), &message) != 0) {
    return std::nullopt;
  }
  const auto name = question(message);
  if (!name) {
    return std::nullopt;
  }
  Records records;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
    ns_rr record{};
    if (::ns_parserr(&message, ns_s_an, i, &record) != 0) {
      return std::nullopt;
    }
    records.add(message, record);
  }
  Answer answer{*name, follow(records, *name)};
  return answer.addresses.empty() ? std::nullopt : std::optional(std::move(answer));
}

}  // namespace trireme::names
