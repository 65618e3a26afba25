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

constexpr std::size_t kNameText =
    NS_MAXDNAME;  // bytes of a name in presentation format, with its NUL

/// Lower case; empty where a character is none of a host's name, such as an escaped one: "a\.b" is
/// one label, and not below "b".
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

/// RFC 2181, section 8: 31 bits, and 0 where the highest is set.
seconds ttl_of(const ns_rr& record) {
  return seconds(ns_rr_ttl(record) > 0x7fffffffU ? 0U : ns_rr_ttl(record));
}

/// The answer section, by owner. libresolv checks each record's bounds and each name's compression.
struct Records {
  struct Alias {
    std::string target;
    seconds ttl{};
  };
  std::unordered_map<std::string, Alias> aliases;
  std::multimap<std::string, Told> addresses;

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
    Told told;
    told.ttl = ttl_of(record);
    told.address.family =
        ns_rr_type(record) == ns_t_a ? policy::Address::Family::v4 : policy::Address::Family::v6;
    const bool is_address = ns_rr_type(record) == ns_t_a || ns_rr_type(record) == ns_t_aaaa;
    if (is_address && ns_rr_rdlen(record) == told.address.size()) {
      std::copy_n(ns_rr_rdata(record), told.address.size(), told.address.bytes.begin());
      addresses.emplace(std::move(owner), told);
    }
  }
};

/// From the name along its aliases to the addresses at their end.
std::vector<Told> follow(const Records& records, std::string name) {
  seconds least = seconds::max();
  for (std::size_t hops = 0; hops < kMostAliases; hops++) {
    const auto alias = records.aliases.find(name);
    if (alias == records.aliases.end()) {
      break;
    }
    least = std::min(least, alias->second.ttl);
    name = alias->second.target;
  }
  std::vector<Told> result;
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
  // Walks all sections: what does not fit the counts is refused as a whole.
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
