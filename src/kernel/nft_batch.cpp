// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
// These kernel headers must come after netinet/in.h.
#include <libmnl/libmnl.h>
#include <libnftnl/batch.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/uio.h>

#include <algorithm>

#include "netlink.hpp"
#include "trireme/kernel/nft.hpp"

namespace trireme::kernel {

namespace {

constexpr std::uint32_t kPage = 1U << 17U;     // bytes of one buffer of a batch
constexpr std::uint32_t kOverrun = 1U << 17U;  // bytes after it, for a message that crosses its end
// A netlink attribute has at most 64 KiB; an element with a comment takes up to 304 bytes.
constexpr std::size_t kElementsPerMessage = 200;
constexpr std::size_t kRequest = 8192;  // bytes of a query
constexpr std::uint16_t kFamily = NFPROTO_INET;

template <typename T, void (*release)(const T*)>
struct Releaser {
  void operator()(const T* object) const { release(object); }
};
using Table = std::unique_ptr<nftnl_table, Releaser<nftnl_table, nftnl_table_free>>;
using Chain = std::unique_ptr<nftnl_chain, Releaser<nftnl_chain, nftnl_chain_free>>;
using Rule = std::unique_ptr<nftnl_rule, Releaser<nftnl_rule, nftnl_rule_free>>;
using Set = std::unique_ptr<nftnl_set, Releaser<nftnl_set, nftnl_set_free>>;

template <typename T>
T checked(T object) {
  if (!object) {
    throw std::bad_alloc();
  }
  return object;
}

std::uint32_t concatenate(const std::vector<SetType>& types) {
  std::uint32_t packed = 0;
  for (const SetType type : types) {
    packed = (packed << 6U) | static_cast<std::uint32_t>(type);
  }
  return packed;
}

Set describe(const std::string& table, const NftSet& set) {
  Set result(checked(nftnl_set_alloc()));
  nftnl_set_set_str(result.get(), NFTNL_SET_TABLE, table.c_str());
  nftnl_set_set_str(result.get(), NFTNL_SET_NAME, set.name.c_str());
  nftnl_set_set_u32(result.get(), NFTNL_SET_FAMILY, kFamily);
  return result;
}

/// A comment as user data in nft's format: type 0 (comment), length, text with its NUL.
std::string comment_data(const std::string& comment) {
  std::string data;
  data += '\0';
  data += static_cast<char>(comment.size() + 1);
  data += comment;
  data += '\0';
  return data;
}

/// The inverse of comment_data(); empty if the data is not a comment.
std::string comment_of(std::string_view data) {
  const auto length = data.size() < 3 || data[0] != '\0' ? 0U : static_cast<unsigned char>(data[1]);
  return length < 1 || data.size() < 2 + std::size_t{length}
             ? std::string()
             : std::string(data.substr(2, length - 1U));
}

std::uint32_t flags_of(const NftSet& set) {
  std::uint32_t flags = 0;
  const auto raise = [&flags](bool condition, std::uint32_t flag) {
    flags |= condition ? flag : 0U;
  };
  raise(set.interval, NFT_SET_INTERVAL);
  raise(set.key_types.size() > 1, NFT_SET_CONCAT);
  raise(!set.data_types.empty(), NFT_SET_MAP);
  raise(set.dynamic_timeout_ms > 0, NFT_SET_EVAL | NFT_SET_TIMEOUT);
  raise(set.dynamic, NFT_SET_EVAL);
  raise(set.timeouts, NFT_SET_TIMEOUT);
  return flags;
}

}  // namespace

struct NftBatch::Buffer {
  nftnl_batch* batch = nftnl_batch_alloc(kPage, kOverrun);
  std::uint32_t sequence = 0;
  nlmsghdr* last = nullptr;
  Buffer() { checked(batch); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { nftnl_batch_free(batch); }
  void advance() {
    const std::size_t size = last == nullptr ? 0 : NLMSG_ALIGN(last->nlmsg_len);
    if (nftnl_batch_update(batch) < 0) {
      throw std::bad_alloc();
    }
    if (last != nullptr) {  // libnftnl moved a message that crossed the end of its page
      last = reinterpret_cast<nlmsghdr*>(static_cast<char*>(nftnl_batch_buffer(batch)) - size);
    }
  }
};

NftBatch::NftBatch(std::string table)
    : table_(std::move(table)), buffer_(std::make_unique<Buffer>()) {
  nftnl_batch_begin(static_cast<char*>(nftnl_batch_buffer(buffer_->batch)), buffer_->sequence++);
  buffer_->advance();
}
NftBatch::~NftBatch() = default;
NftBatch::NftBatch(NftBatch&&) noexcept = default;
NftBatch& NftBatch::operator=(NftBatch&&) noexcept = default;

void* NftBatch::begin(std::uint16_t type, std::uint16_t flags) {
  messages_++;
  buffer_->last = nftnl_nlmsg_build_hdr(static_cast<char*>(nftnl_batch_buffer(buffer_->batch)),
                                        type, kFamily, flags, buffer_->sequence++);
  return buffer_->last;
}

void NftBatch::add_table(const std::string& comment) {
  const Table table(checked(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, table_.c_str());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, kFamily);
  if (!comment.empty()) {
    const std::string data = comment_data(comment);
    nftnl_table_set_data(table.get(), NFTNL_TABLE_USERDATA, data.data(),
                         static_cast<std::uint32_t>(data.size()));
  }
  nftnl_table_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_NEWTABLE, NLM_F_CREATE)),
                                  table.get());
  buffer_->advance();
}

void NftBatch::delete_table() {
  const Table table(checked(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, table_.c_str());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, kFamily);
  nftnl_table_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_DELTABLE, 0)), table.get());
  buffer_->advance();
}

void NftBatch::add_chain(const std::string& name, std::optional<NftBaseChain> base) {
  const Chain chain(checked(nftnl_chain_alloc()));
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, table_.c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  if (base) {
    nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, "filter");
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, base->hook);
    nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, base->priority);
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  }
  nftnl_chain_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE)),
                                  chain.get());
  buffer_->advance();
}

void NftBatch::delete_chain(const std::string& name) {
  const Rule rules(checked(nftnl_rule_alloc()));
  nftnl_rule_set_u32(rules.get(), NFTNL_RULE_FAMILY, kFamily);
  nftnl_rule_set_str(rules.get(), NFTNL_RULE_TABLE, table_.c_str());
  nftnl_rule_set_str(rules.get(), NFTNL_RULE_CHAIN, name.c_str());
  nftnl_rule_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_DELRULE, 0)), rules.get());
  buffer_->advance();
  const Chain chain(checked(nftnl_chain_alloc()));
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, table_.c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  nftnl_chain_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_DELCHAIN, 0)), chain.get());
  buffer_->advance();
}

void NftBatch::add_set(const NftSet& set) {
  const Set object = describe(table_, set);
  nftnl_set_set_u32(object.get(), NFTNL_SET_FLAGS, flags_of(set));
  nftnl_set_set_u32(object.get(), NFTNL_SET_ID, next_set_id_++);
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_TYPE, concatenate(set.key_types));
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_LEN, set.key_size);
  if (set.key_types.size() > 1) {
    std::vector<std::uint8_t> fields(set.key_types.size());
    std::transform(set.key_types.begin(), set.key_types.end(), fields.begin(),
                   [](SetType type) -> std::uint8_t {
                     return type == SetType::inet_proto     ? 1
                            : type == SetType::inet_service ? 2
                            : type == SetType::ipv6_addr    ? 16
                                                            : 4;
                   });
    nftnl_set_set_data(object.get(), NFTNL_SET_DESC_CONCAT, fields.data(),
                       static_cast<std::uint32_t>(fields.size()));
  }
  if (!set.data_types.empty()) {
    const bool verdict = set.data_types.front() == SetType::verdict;
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_TYPE, concatenate(set.data_types));
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_LEN, verdict ? 16 : set.data_size);
  }
  if (set.size > 0) {
    nftnl_set_set_u32(object.get(), NFTNL_SET_DESC_SIZE, set.size);
  }
  if (set.dynamic_timeout_ms > 0) {
    nftnl_set_set_u64(object.get(), NFTNL_SET_TIMEOUT, set.dynamic_timeout_ms);
  }
  nftnl_set_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_NEWSET, NLM_F_CREATE)),
                                object.get());
  buffer_->advance();
}

void NftBatch::add_rule(const std::string& chain, const NftRule& rule) {
  nftnl_rule* object = rule.rule_.get();
  nftnl_rule_set_str(object, NFTNL_RULE_TABLE, table_.c_str());
  nftnl_rule_set_str(object, NFTNL_RULE_CHAIN, chain.c_str());
  nftnl_rule_set_u32(object, NFTNL_RULE_FAMILY, kFamily);
  nftnl_rule_nlmsg_build_payload(
      static_cast<nlmsghdr*>(begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND)), object);
  buffer_->advance();
}

namespace {

nftnl_set_elem* describe(const NftElement& element) {
  nftnl_set_elem* object = checked(nftnl_set_elem_alloc());
  if (element.catch_all) {
    nftnl_set_elem_set_u32(object, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_CATCHALL);
  } else {
    nftnl_set_elem_set(object, NFTNL_SET_ELEM_KEY, element.key.view().data(),
                       static_cast<std::uint32_t>(element.key.size()));
  }
  if (element.interval_end) {
    nftnl_set_elem_set_u32(object, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  }
  if (element.key_end.size() > 0) {
    nftnl_set_elem_set(object, NFTNL_SET_ELEM_KEY_END, element.key_end.view().data(),
                       static_cast<std::uint32_t>(element.key_end.size()));
  }
  if (element.data.size() > 0) {
    nftnl_set_elem_set(object, NFTNL_SET_ELEM_DATA, element.data.view().data(),
                       static_cast<std::uint32_t>(element.data.size()));
  }
  if (element.timeout.count() > 0) {
    nftnl_set_elem_set_u64(object, NFTNL_SET_ELEM_TIMEOUT,
                           static_cast<std::uint64_t>(element.timeout.count()));
  }
  if (!element.comment.empty()) {
    const std::string data = comment_data(element.comment);
    nftnl_set_elem_set(object, NFTNL_SET_ELEM_USERDATA, data.data(),
                       static_cast<std::uint32_t>(data.size()));
  }
  if (element.verdict) {
    nftnl_set_elem_set_u32(object, NFTNL_SET_ELEM_VERDICT,
                           static_cast<std::uint32_t>(element.verdict->code));
    if (!element.verdict->chain.empty()) {
      nftnl_set_elem_set_str(object, NFTNL_SET_ELEM_CHAIN, element.verdict->chain.c_str());
    }
  }
  return object;
}

}  // namespace

void NftBatch::elements(std::uint16_t type, std::uint16_t flags, const NftSet& set,
                        std::span<const NftElement> elements) {
  for (std::size_t first = 0; first < elements.size(); first += kElementsPerMessage) {
    const auto part =
        elements.subspan(first, std::min(kElementsPerMessage, elements.size() - first));
    const Set object = describe(table_, set);
    for (const NftElement& element : part) {
      nftnl_set_elem_add(object.get(), trireme::kernel::describe(element));
    }
    nftnl_set_elems_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(type, flags)), object.get());
    buffer_->advance();
  }
}

void NftBatch::add_elements(const NftSet& set, std::span<const NftElement> list) {
  elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, list);
}

void NftBatch::delete_elements(const NftSet& set, std::span<const NftElement> list) {
  elements(NFT_MSG_DELSETELEM, 0, set, list);
}

void NftBatch::flush_set(const NftSet& set) {
  const Set object = describe(table_, set);
  nftnl_set_elems_nlmsg_build_payload(static_cast<nlmsghdr*>(begin(NFT_MSG_DELSETELEM, 0)),
                                      object.get());
  buffer_->advance();
}

Result<NftSocket> NftSocket::open() {
  auto socket = netlink::open(NETLINK_NETFILTER, "nf_tables");
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  sockaddr_nl self{};
  socklen_t length = sizeof self;
  if (::getsockname(socket->get(), reinterpret_cast<sockaddr*>(&self), &length) != 0) {
    return fail_errno("cannot read the port of a netlink socket");
  }
  // A ruleset for 10,000 workloads is sent as one datagram of several megabytes.
  const int size = 1 << 28;
  if (::setsockopt(socket->get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) {
    return fail_errno("cannot enlarge the netlink send buffer (needs CAP_NET_ADMIN)");
  }
  const int receive = 1 << 22;
  (void)::setsockopt(socket->get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive, sizeof receive);
  return NftSocket(std::move(*socket), self.nl_pid);
}

namespace {

/// Reads the kernel's answers to one sendmsg(2), which are all there when that call returns.
/// Returns the first error; also an error if nothing was acknowledged.
Status collect(const Fd& socket) {
  std::vector<char> buffer(1U << 16U);
  int first_error = 0;
  bool acknowledged = false;
  const auto read = [&](const nlmsghdr* header) {
    if (header->nlmsg_type != NLMSG_ERROR) {
      return;
    }
    const auto* answer = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
    if (answer->error == 0) {
      acknowledged = true;
    } else if (first_error == 0) {
      first_error = -answer->error;
    }
  };
  // To the last one, whatever they are: none may be left for a later request.
  while (true) {
    const auto received = netlink::receive(socket, buffer, netlink::Wait::no, read);
    if (received && *received == netlink::Received::messages) {
      continue;
    }
    if (received && *received == netlink::Received::nothing) {
      break;
    }
    if (first_error == 0) {
      first_error = received ? ENOBUFS : received.error().code;
    }
    if (!received) {
      break;
    }
  }
  if (first_error != 0) {
    return fail_errno("nf_tables rejected the transaction", first_error);
  }
  return acknowledged ? Status{} : fail("nf_tables did not acknowledge the transaction");
}

}  // namespace

Status NftSocket::commit(NftBatch&& batch) {
  if (batch.empty()) {
    return {};
  }
  auto& buffer = *batch.buffer_;
  std::exchange(buffer.last, nullptr)->nlmsg_flags |= NLM_F_ACK;
  nftnl_batch_end(static_cast<char*>(nftnl_batch_buffer(buffer.batch)), buffer.sequence++);
  buffer.advance();
  std::vector<iovec> parts(static_cast<std::size_t>(nftnl_batch_iovec_len(buffer.batch)));
  nftnl_batch_iovec(buffer.batch, parts.data(), static_cast<std::uint32_t>(parts.size()));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  msghdr message{};
  message.msg_name = &kernel;
  message.msg_namelen = sizeof kernel;
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (::sendmsg(socket_.get(), &message, 0) < 0) {
    return fail_errno("cannot send a transaction to nf_tables");
  }
  return collect(socket_);
}

Result<bool> NftSocket::table_exists(const std::string& table) {
  const auto comment = table_comment(table);
  return comment ? Result<bool>(comment->has_value()) : tl::unexpected(comment.error());
}

Result<std::optional<std::string>> NftSocket::table_comment(const std::string& name) {
  std::vector<char> buffer(kRequest);
  const Table table(checked(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name.c_str());
  nlmsghdr* request = nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETTABLE, kFamily, NLM_F_ACK, 0);
  nftnl_table_nlmsg_build_payload(request, table.get());
  std::string comment;
  const auto read_comment = [&comment](const nlmsghdr* header) {
    const Table found(checked(nftnl_table_alloc()));
    std::uint32_t length = 0;
    const auto* data = nftnl_table_nlmsg_parse(header, found.get()) < 0
                           ? nullptr
                           : static_cast<const char*>(
                                 nftnl_table_get_data(found.get(), NFTNL_TABLE_USERDATA, &length));
    // In the format of add_table(): type, length, text with its NUL.
    if (data != nullptr && length > 3 && data[0] == 0) {
      comment.assign(data + 2, length - 3);
    }
  };
  std::vector<char> answer(1U << 16U);
  const auto status =
      netlink::ask(socket_, request, answer, "cannot read a table of nf_tables", read_comment);
  if (status) {
    return std::optional(comment);
  }
  if (status.error().code == ENOENT) {
    return std::nullopt;
  }
  return tl::unexpected(status.error());
}

namespace {

/// Returns false if the message cannot be parsed.
bool read_elements(const nlmsghdr* header, std::vector<NftListed>& list) {
  const Set part(checked(nftnl_set_alloc()));
  if (nftnl_set_elems_nlmsg_parse(header, part.get()) < 0) {
    return false;
  }
  nftnl_set_elems_iter* iterator = nftnl_set_elems_iter_create(part.get());
  while (nftnl_set_elem* element = nftnl_set_elems_iter_next(iterator)) {
    NftListed listed;
    std::uint32_t length = 0;
    if (const auto* key = static_cast<const std::uint8_t*>(
            nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &length))) {
      listed.key.assign(key, key + length);
    }
    if (nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_EXPIRATION)) {
      listed.remaining =
          std::chrono::milliseconds(nftnl_set_elem_get_u64(element, NFTNL_SET_ELEM_EXPIRATION));
    }
    if (const auto* data = static_cast<const char*>(
            nftnl_set_elem_get(element, NFTNL_SET_ELEM_USERDATA, &length))) {
      listed.comment = comment_of({data, length});
    }
    list.push_back(std::move(listed));
  }
  nftnl_set_elems_iter_destroy(iterator);
  return true;
}

}  // namespace

Result<std::vector<NftListed>> NftSocket::elements(const std::string& table,
                                                   const std::string& set) {
  constexpr int kListTries = 8;  // attempts if the set changes while it is read
  std::vector<char> buffer(kRequest);
  std::vector<char> answer(1U << 17U);
  const Set object = describe(table, NftSet{.name = set, .key_types = {}, .data_types = {}});
  for (int tried = 0; tried < kListTries; tried++) {
    nlmsghdr* request =
        nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETSETELEM, kFamily, NLM_F_DUMP, 0);
    nftnl_set_elems_nlmsg_build_payload(request, object.get());
    std::vector<NftListed> list;
    bool parsed = true;
    const auto whole = netlink::ask(
        socket_, request, answer, "cannot list a set of nf_tables",
        [&](const nlmsghdr* header) { parsed = read_elements(header, list) && parsed; });
    if (!whole) {
      return tl::unexpected(whole.error());
    }
    if (!parsed) {
      return fail("cannot parse the elements of the nf_tables set " + set);
    }
    if (*whole) {
      return list;
    }
  }
  return fail("cannot list the nf_tables set " + set + ": it changed during every attempt");
}

Result<std::vector<NftListed>> NftSocket::list(const std::string& table, const std::string& set) {
  auto listed = elements(table, set);
  return !listed && listed.error().code == ENOENT ? Result<std::vector<NftListed>>() : listed;
}

Result<std::vector<std::vector<std::uint8_t>>> NftSocket::keys(const std::string& table,
                                                               const std::string& set) {
  const auto listed = elements(table, set);
  if (!listed) {
    return tl::unexpected(listed.error());
  }
  std::vector<std::vector<std::uint8_t>> result;
  for (const NftListed& element : *listed) {
    result.push_back(element.key);
  }
  return result;
}

}  // namespace trireme::kernel
