#include "trireme/kernel/netns.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
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

/// Brings the thread home, also where the function throws.
class WayBack {
 public:
  explicit WayBack(const Fd& home) : home_(home.get()) {}
  WayBack(const WayBack&) = delete;
  WayBack& operator=(const WayBack&) = delete;
  ~WayBack() {
    if (::setns(home_, CLONE_NEWNET) != 0) {
      std::fprintf(stderr, "cannot come back to the own network namespace: %s; ending\n", std::strerror(errno));
      std::abort();
    }
  }

 private:
  int home_;
};

}  // namespace

Result<std::shared_ptr<const Netns>> Netns::at(const std::string& path) {
  auto fd = open_namespace(path);
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  struct stat status {};
  if (::fstat(fd->get(), &status) != 0) {
    return fail_errno("cannot tell which network namespace " + path + " is");
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
    return fail_errno("cannot tell which network namespace this thread is in");
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

}  // namespace trireme::kernel
