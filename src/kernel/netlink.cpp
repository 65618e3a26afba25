// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <libmnl/libmnl.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <string>

namespace trireme::kernel::netlink {
namespace {

/// For each message of a datagram, until `each` returns false.
bool each_message(std::span<char> bytes, const std::function<bool(const nlmsghdr*)>& each) {
  auto left = static_cast<int>(bytes.size());
  for (auto* header = reinterpret_cast<nlmsghdr*>(bytes.data()); mnl_nlmsg_ok(header, left);
       header = mnl_nlmsg_next(header, &left)) {
    if (!each(header)) {
      return false;
    }
  }
  return true;
}

struct Datagram {
  Received received = Received::nothing;
  std::span<char> bytes = {};
};

Result<Datagram> receive_datagram(const Fd& socket, std::span<char> buffer, Wait wait) {
  while (true) {
    sockaddr_nl sender{};
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    msghdr message{};
    message.msg_name = &sender;
    message.msg_namelen = sizeof sender;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t length = ::recvmsg(socket.get(), &message, wait == Wait::no ? MSG_DONTWAIT : 0);
    if (length < 0) {
      switch (errno) {
        case EINTR:
          continue;
        case EAGAIN:
          return Datagram{};
        case ENOBUFS:
          return Datagram{.received = Received::overrun};
        default:
          return fail_errno("cannot receive from a netlink socket");
      }
    }
    if (sender.nl_pid != 0) {
      continue;  // another process may send to this socket's port
    }
    if ((message.msg_flags & MSG_TRUNC) != 0) {
      return Datagram{.received = Received::overrun};
    }
    return Datagram{.received = Received::messages,
                    .bytes = buffer.first(static_cast<std::size_t>(length))};
  }
}

std::uint32_t next_sequence() {
  static std::atomic<std::uint32_t> last{static_cast<std::uint32_t>(std::time(nullptr))};
  return ++last;
}

/// What the messages of an answer have said so far.
struct Answer {
  bool ended = false;
  bool whole = true;
  int error = 0;  // errno value
};

/// Returns false at the end of the answer.
bool take(Answer& answer, const nlmsghdr* request, const nlmsghdr* header, const Each& each) {
  const bool is_dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  answer.whole = answer.whole && (header->nlmsg_flags & NLM_F_DUMP_INTR) == 0;
  if (header->nlmsg_type == NLMSG_DONE) {
    answer.ended = true;
  } else if (header->nlmsg_type == NLMSG_ERROR) {
    answer.ended = true;
    answer.error = mnl_nlmsg_get_payload_len(header) < sizeof(int)
                       ? EPROTO
                       : -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header))->error;
  } else {
    each(header);
    answer.ended = !is_dump && (request->nlmsg_flags & NLM_F_ACK) == 0;
  }
  return !answer.ended;
}

}  // namespace

Result<Fd> open(int protocol, const char* purpose, int flags) {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol));
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&self), sizeof self) != 0) {
    return fail_errno(std::string("cannot open a netlink socket to ") + purpose);
  }
  return fd;
}

Result<Received> receive(const Fd& socket, std::span<char> buffer, Wait wait, const Each& each) {
  const auto datagram = receive_datagram(socket, buffer, wait);
  if (!datagram) {
    return tl::unexpected(datagram.error());
  }
  each_message(datagram->bytes, [&each](const nlmsghdr* header) {
    each(header);
    return true;
  });
  return datagram->received;
}

Result<bool> ask(const Fd& socket, nlmsghdr* request, std::span<char> buffer, const char* what,
                 const Each& each, const Each& others) {
  request->nlmsg_seq = next_sequence();
  const nlmsghdr sent = *request;  // `buffer` may be where the request is
  if (::send(socket.get(), request, request->nlmsg_len, 0) < 0) {
    return fail_errno(what);
  }
  Answer answer;
  while (!answer.ended) {
    const auto datagram = receive_datagram(socket, buffer, Wait::yes);
    if (!datagram) {
      return fail_errno(what, datagram.error().code);
    }
    if (datagram->received != Received::messages) {
      return fail_errno(what, datagram->received == Received::overrun ? ENOBUFS : EAGAIN);
    }
    each_message(datagram->bytes, [&](const nlmsghdr* header) {
      if (header->nlmsg_seq == sent.nlmsg_seq) {
        return take(answer, &sent, header, each);
      }
      if (others) {
        others(header);
      }
      return true;  // unasked, or of an earlier request whose answer was not read to its end
    });
  }
  if (answer.error != 0) {
    return fail_errno(what, answer.error);
  }
  return answer.whole;
}

Status confirm(const Fd& socket, nlmsghdr* request, const char* what) {
  std::array<char, 8192> buffer{};
  const auto answered = ask(socket, request, buffer, what, [](const nlmsghdr* /*header*/) {});
  return answered ? Status{} : Status(tl::unexpected(answered.error()));
}

}  // namespace trireme::kernel::netlink
