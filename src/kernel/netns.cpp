#include "trireme/kernel/netns.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>
#include <utility>

namespace trireme::kernel {
namespace {

/// Opens a network namespace by its file, and tells its inode number.
Result<std::pair<Fd, std::uint64_t>> open_namespace(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) {
    return fail_errno("cannot open " + path);
  }
  return std::pair(std::move(fd), static_cast<std::uint64_t>(status.st_ino));
}

}  // namespace

Result<std::shared_ptr<const Netns>> Netns::own() {
  auto opened = open_namespace("/proc/thread-self/ns/net");
  if (!opened) {
    return tl::unexpected(opened.error());
  }
  return std::shared_ptr<const Netns>(new Netns(std::move(opened->first), opened->second));
}

Result<std::shared_ptr<const Netns>> Netns::of_process(std::uint32_t pid) {
  auto opened = open_namespace("/proc/" + std::to_string(pid) + "/ns/net");
  if (!opened) {
    return tl::unexpected(opened.error());
  }
  return std::shared_ptr<const Netns>(new Netns(std::move(opened->first), opened->second));
}

Status Netns::within(const std::function<void()>& function) const {
  const auto home = open_namespace("/proc/thread-self/ns/net");
  if (!home) {
    return tl::unexpected(home.error());
  }
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    return fail_errno("cannot enter network namespace " + std::to_string(inode_));
  }
  function();
  if (::setns(home->first.get(), CLONE_NEWNET) != 0) {
    spdlog::critical("{}", fail_errno("cannot come back from network namespace " + std::to_string(inode_)).value().text());
    std::abort();
  }
  return {};
}

}  // namespace trireme::kernel
