// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/netns.hpp"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

namespace trireme::kernel {
namespace {

constexpr const char* kOwn = "/proc/thread-self/ns/net";

Result<Fd> open_namespace(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("cannot open the network namespace " + path);
  }
  return fd;
}

/// Returns the thread to its own network namespace at the end of a scope, also after an exception.
class WayBack {
 public:
  explicit WayBack(const Fd& home) : home_(home.get()) {}
  WayBack(const WayBack&) = delete;
  WayBack& operator=(const WayBack&) = delete;
  ~WayBack() {
    if (::setns(home_, CLONE_NEWNET) != 0) {
      std::fprintf(stderr, "cannot return to the original network namespace: %s; aborting\n",
                   std::strerror(errno));
      std::abort();
    }
  }

 private:
  int home_;
};

/// True if the user namespace of this process owns the calling thread's network namespace: it was
/// created by a privileged process, not by a user in a user namespace of his own. True if unknown.
bool is_of_own_user_namespace() {
  const Fd network(::open(kOwn, O_RDONLY | O_CLOEXEC));
  const Fd users(::ioctl(network.get(), NS_GET_USERNS));
  struct stat own {};
  struct stat theirs {};
  return !users.valid() || ::fstat(users.get(), &theirs) != 0 ||
         ::stat("/proc/self/ns/user", &own) != 0 || own.st_ino == theirs.st_ino;
}

}  // namespace

Result<std::shared_ptr<const Netns>> Netns::at(const std::string& path) {
  auto fd = open_namespace(path);
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  struct stat status {};
  if (::ioctl(fd->get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return fail(path + " is not a network namespace");
  }
  if (::fstat(fd->get(), &status) != 0) {
    return fail_errno("cannot identify the network namespace " + path);
  }
  return std::shared_ptr<const Netns>(new Netns(std::move(*fd), status.st_dev, status.st_ino));
}

Result<std::shared_ptr<const Netns>> Netns::own() {
  return at(kOwn);
}

Result<std::shared_ptr<const Netns>> Netns::of_process(std::uint32_t pid) {
  return at("/proc/" + std::to_string(pid) + "/ns/net");
}

Status Netns::within(const std::function<void()>& function) const {
  const auto home = open_namespace(kOwn);
  if (!home) {
    return tl::unexpected(home.error());
  }
  struct stat status {};
  if (::fstat(home->get(), &status) != 0) {
    return fail_errno("cannot identify the network namespace of this thread");
  }
  if (status.st_dev == device_ && status.st_ino == inode_) {
    function();
    return {};
  }
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    return fail_errno("cannot enter a network namespace");
  }
  const WayBack back(*home);
  function();
  return {};
}

Result<bool> leads_out() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::unique_ptr<struct if_nameindex, decltype(&::if_freenameindex)> devices(
      ::if_nameindex(), ::if_freenameindex);
  if (!socket.valid() || devices == nullptr) {
    return fail_errno("cannot list the devices of a network namespace");
  }
  const bool tuns_count = is_of_own_user_namespace();
  for (const struct if_nameindex* device = devices.get(); device->if_name != nullptr; device++) {
    ifreq request{};
    std::strncpy(request.ifr_name, device->if_name, IFNAMSIZ - 1);
    if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) {
      continue;  // the device is gone
    }
    const auto flags = static_cast<unsigned>(request.ifr_flags);
    if ((flags & IFF_UP) == 0 || (flags & IFF_LOOPBACK) != 0) {
      continue;
    }
    if (tuns_count) {
      return true;
    }
    ethtool_drvinfo driver{};
    driver.cmd = ETHTOOL_GDRVINFO;
    request.ifr_data = reinterpret_cast<char*>(&driver);
    if (::ioctl(socket.get(), SIOCETHTOOL, &request) != 0 ||
        std::strcmp(driver.driver, "tun") != 0) {
      return true;
    }
  }
  return false;
}

std::uint64_t netns_cookie() {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0) {
    return cookie;
  }
  struct stat info {};
  return ::stat(kOwn, &info) == 0 ? static_cast<std::uint64_t>(info.st_ino) : 0;
}

std::vector<std::shared_ptr<const Netns>> other_networks() {
  std::map<std::uint64_t, std::shared_ptr<const Netns>> found;
  const auto own = Netns::own();
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", none)) {
    const std::string name = entry.path().filename();
    std::uint32_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr !=
        name.data() + name.size()) {
      continue;
    }
    // Processes share few namespaces: compare the inode first, and open each namespace once.
    struct stat status {};
    if (::stat(("/proc/" + name + "/ns/net").c_str(), &status) != 0 ||
        found.contains(status.st_ino) || (own && (*own)->inode() == status.st_ino)) {
      continue;
    }
    if (auto network = Netns::of_process(pid)) {
      found.emplace((*network)->inode(), std::move(*network));
    }
  }
  std::vector<std::shared_ptr<const Netns>> list;
  for (auto& [inode, network] : found) {
    list.push_back(std::move(network));
  }
  return list;
}

}  // namespace trireme::kernel
