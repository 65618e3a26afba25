// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
// The kernel's headers define what netinet/in.h has not.
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
#include <ctime>

#include "trireme/kernel/nft.hpp"

namespace trireme::kernel {

namespace {

constexpr std::uint32_t kPage = 1U << 17U;  // one buffer of a batch
constexpr std::uint32_t kOverrun = 1U
                                   << 17U;  // room behind it, for the message that crosses its end
constexpr std::size_t kElementsPerMessage =
    200;  // a netlink attribute holds 64 KiB; an element with a comment takes up to 304 bytes
constexpr std::size_t kRequest = 8192;  // bytes, a question to the kernel
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

/// nft's user data: type 0 (comment), length, text with its NUL.
std::string comment_data(const std::string& comment) {
  std::string data;
  data += '\0';
  data += static_cast<char>(comment.size() + 1);
  data += comment;
  data += '\0';
  return data;
}

/// The other way round; empty where it is no comment.
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
    if (last != nullptr) {  // a message that crossed the end of its page is in the next one now
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

NftSocket::NftSocket(mnl_socket* socket)
    : socket_(socket), sequence_(static_cast<std::uint32_t>(std::time(nullptr))) {}
NftSocket::NftSocket(NftSocket&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)), sequence_(other.sequence_) {}
NftSocket& NftSocket::operator=(NftSocket&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(sequence_, other.sequence_);
  return *this;
}
NftSocket::~NftSocket() {
  if (socket_ != nullptr) {
    mnl_socket_close(socket_);
  }
}

Result<NftSocket> NftSocket::open() {
  mnl_socket* socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
  if (socket == nullptr) {
    return fail_errno("cannot open a netlink socket to nf_tables");
  }
  NftSocket result(socket);
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    return fail_errno("cannot bind a netlink socket to nf_tables");
  }
  // A whole ruleset with 10,000 workloads is one message of several megabytes.
  const int size = 1 << 28;
  if (::setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) {
    return fail_errno("cannot enlarge the netlink send buffer (CAP_NET_ADMIN is needed)");
  }
  const int receive = 1 << 22;
  (void)::setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &receive,
                     sizeof receive);
  return result;
}

namespace {

/// Reads what the kernel answered to one sendmsg(2); netlink has it ready when the call returns.
/// Counts acknowledgements, keeps the first error.
Status collect(mnl_socket* socket) {
  std::vector<char> buffer(1U << 16U);
  int first_error = 0;
  bool acknowledged = false;
  while (true) {
    const ssize_t length =
        ::recv(mnl_socket_get_fd(socket), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno != EAGAIN && first_error == 0) {
        first_error = errno;
      }
      break;
    }
    int left = static_cast<int>(length);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_type != NLMSG_ERROR) {
        continue;
      }
      const auto* answer = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
      if (answer->error == 0) {
        acknowledged = true;
      } else if (first_error == 0) {
        first_error = -answer->error;
      }
    }
  }
  if (first_error != 0) {
    return fail_errno("nf_tables refused the transaction", first_error);
  }
  return acknowledged ? Status{} : fail("nf_tables gave no answer to the transaction");
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
  if (::sendmsg(mnl_socket_get_fd(socket_), &message, 0) < 0) {
    return fail_errno("cannot send a transaction to nf_tables");
  }
  return collect(socket_);
}

namespace {

Status dump(mnl_socket* socket, nlmsghdr* request, int (*callback)(const nlmsghdr*, void*),
            void* context) {
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) {
    return fail_errno("cannot ask nf_tables");
  }
  std::vector<char> buffer(1U << 17U);
  while (true) {
    const ssize_t length = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (length < 0) {
      return fail_errno("cannot read from nf_tables");
    }
    const int status =
        mnl_cb_run(buffer.data(), static_cast<std::size_t>(length), request->nlmsg_seq,
                   mnl_socket_get_portid(socket), callback, context);
    if (status < 0) {
      return fail_errno("cannot read from nf_tables");
    }
    if (status == MNL_CB_STOP) {
      return {};
    }
  }
}

}  // namespace

std::uint32_t NftSocket::port() const {
  return mnl_socket_get_portid(socket_);
}

Result<bool> NftSocket::table_exists(const std::string& table) {
  const auto comment = table_comment(table);
  return comment ? Result<bool>(comment->has_value()) : tl::unexpected(comment.error());
}

Result<std::optional<std::string>> NftSocket::table_comment(const std::string& name) {
  std::vector<char> buffer(kRequest);
  const Table table(checked(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name.c_str());
  nlmsghdr* request =
      nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETTABLE, kFamily, NLM_F_ACK, ++sequence_);
  nftnl_table_nlmsg_build_payload(request, table.get());
  std::string comment;
  const auto read_comment = [](const nlmsghdr* header, void* context) -> int {
    const Table told(checked(nftnl_table_alloc()));
    std::uint32_t length = 0;
    const auto* data = nftnl_table_nlmsg_parse(header, told.get()) < 0
                           ? nullptr
                           : static_cast<const char*>(
                                 nftnl_table_get_data(told.get(), NFTNL_TABLE_USERDATA, &length));
    // As add_table() writes it: type, length, text with its NUL.
    if (data != nullptr && length > 3 && data[0] == 0) {
      static_cast<std::string*>(context)->assign(data + 2, length - 3);
    }
    return MNL_CB_OK;
  };
  const Status status = dump(socket_, request, read_comment, &comment);
  if (status) {
    return std::optional(comment);
  }
  if (status.error().code == ENOENT) {
    return std::nullopt;
  }
  return tl::unexpected(status.error());
}

Result<std::vector<NftListed>> NftSocket::elements(const std::string& table,
                                                   const std::string& set) {
  std::vector<NftListed> result;
  std::vector<char> buffer(kRequest);
  nlmsghdr* request =
      nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETSETELEM, kFamily, NLM_F_DUMP, ++sequence_);
  const Set object = describe(table, NftSet{.name = set, .key_types = {}, .data_types = {}});
  nftnl_set_elems_nlmsg_build_payload(request, object.get());
  const auto collect = [](const nlmsghdr* header, void* context) -> int {
    const Set part(checked(nftnl_set_alloc()));
    if (nftnl_set_elems_nlmsg_parse(header, part.get()) < 0) {
      return MNL_CB_ERROR;
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
      static_cast<std::vector<NftListed>*>(context)->push_back(std::move(listed));
    }
    nftnl_set_elems_iter_destroy(iterator);
    return MNL_CB_OK;
  };
  if (const Status status = dump(socket_, request, collect, &result); !status) {
    return tl::unexpected(status.error());
  }
  return result;
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
