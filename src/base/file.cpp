// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

namespace trireme {

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("cannot read " + path);
  }
  std::string content;
  char buffer[16384];
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return fail_errno("cannot read " + path);
    }
    if (count == 0) {
      return content;
    }
    content.append(buffer, static_cast<std::size_t>(count));
    if (content.size() > limit) {
      return fail("cannot read " + path + ": larger than " + std::to_string(limit) + " bytes");
    }
  }
}

Status write_file(const std::string& path, std::string_view content, unsigned mode) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd.valid()) {
    return fail_errno("cannot write " + path);
  }
  const ssize_t count = ::write(fd.get(), content.data(), content.size());
  if (count < 0 || static_cast<std::size_t>(count) != content.size()) {
    return fail_errno("cannot write " + path, count < 0 ? errno : EIO);
  }
  return {};
}

Status replace_file(const std::string& path, std::string_view content, unsigned mode) {
  const std::string fresh = path + ".new";
  if (::unlink(fresh.c_str()) != 0 && errno != ENOENT) {
    return fail_errno("cannot remove " + fresh);
  }
  const auto fd = create_file(fresh, content, mode);
  if (!fd) {
    return tl::unexpected(fd.error());
  }
  if (::fsync(fd->get()) != 0 || std::rename(fresh.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(fresh.c_str());
    return fail_errno("cannot replace " + path, error);
  }
  return {};
}

Status write_new_file(const std::string& path, std::string_view content, unsigned mode) {
  const auto fd = create_file(path, content, mode);
  return fd ? Status{} : tl::unexpected(fd.error());
}

Result<Fd> create_file(const std::string& path, std::string_view content, unsigned mode) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd.valid()) {
    return fail_errno("cannot create " + path);
  }
  while (!content.empty()) {
    const ssize_t count = ::write(fd.get(), content.data(), content.size());
    if (count < 0 && errno != EINTR) {
      const int error = errno;
      ::unlink(path.c_str());
      return fail_errno("cannot write " + path, error);
    }
    content.remove_prefix(count < 0 ? 0 : static_cast<std::size_t>(count));
  }
  return fd;
}

}  // namespace trireme
