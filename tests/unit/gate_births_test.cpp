// SPDX-License-Identifier: Apache-2.0
// Cgroups that the kernel quarantines when they are created, and cgroups that are removed, with and
// without a running daemon.
#include <sys/mount.h>

#include <algorithm>
#include <cstdlib>

#include "gate_support.hpp"

namespace trireme::gate {
namespace {

/// A mount namespace for the test, with its own BPF file system at the usual place.
class Births : public GateTest {
 protected:
  void SetUp() override {
    if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
      GTEST_SKIP() << "the kernel has no BTF";
    }
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "cannot make a mount namespace";
    }
    while (::umount2(kBpffs, MNT_DETACH) == 0) {
      // the machine's own one, which the test must not change
    }
    if (has_file_system_) {
      ASSERT_EQ(::mount("bpf", kBpffs, "bpf", 0, nullptr), 0) << std::strerror(errno);
      mounted_ = true;
    }
    GateTest::SetUp();
    if (gate_) {
      must(gate_->quarantine_births({.docker = true, .podman = true}));
    }
  }
  void TearDown() override {
    GateTest::TearDown();
    if (mounted_) {
      EXPECT_FALSE(std::filesystem::exists(std::string(kBpffs) + "/trireme")) << "pins remain";
      EXPECT_EQ(::umount(kBpffs), 0);
    }
  }

  [[nodiscard]] std::string container(const std::string& prefix = "", const std::string& end = "") {
    static unsigned counter = 0;
    std::string hex = std::to_string(++counter);
    hex.insert(0, 62 - hex.size(), '0');
    return prefix + "af" + hex + end;
  }
  [[nodiscard]] policy::Number number_of(const std::string& path) const {
    const auto numbers = gate_->numbers();
    EXPECT_TRUE(numbers);
    const auto found = numbers->find(id(path));
    return found == numbers->end() ? 0 : found->second;
  }
  [[nodiscard]] std::string born(const std::string& name) {
    const std::string path = make(name);
    EXPECT_EQ(number_of(path), abi::kBorn) << path;
    return path;
  }

  static constexpr const char* kBpffs = "/sys/fs/bpf";
  bool has_file_system_ = true;

 private:
  bool mounted_ = false;
};

class WithoutFileSystem : public Births {
 protected:
  WithoutFileSystem() { has_file_system_ = false; }
};

TEST_F(Births, ContainersAreQuarantinedBeforeTheyBegin) {
  make("system.slice");
  make("a.slice/b.slice");
  make("docker");
  make("libpod_parent");
  for (const std::string& name :
       {container("system.slice/docker-", ".scope"), container("a.slice/b.slice/libpod-", ".scope"),
        container("docker-", ".scope"), container("docker/"), container("libpod_parent/libpod-"),
        container("libpod_parent/")}) {
    const std::string path = born(name);
    EXPECT_FALSE(talks(plain_, path)) << path;
    EXPECT_FALSE(talks(path, plain_)) << path;
    EXPECT_FALSE(talks(path, path)) << path;
    const std::string below = make(name + "/init");
    EXPECT_FALSE(exchanges(below, plain_)) << path;
  }
}

TEST_F(Births, OthersAreLeftAlone) {
  make("system.slice");
  make("user@1000.service");
  make("else");
  make("deep/docker");
  make("docker");
  const std::string outer = born(container("docker/"));
  must(gate_->release(id(outer)));
  const std::string short_id = "docker-" + std::string(63, 'a') + ".scope";
  for (const std::string& name :
       {short_id, container("system.slice/cri-containerd-", ".scope"),
        container("system.slice/docker-", ".service"),
        container("user@1000.service/docker-", ".scope"), container("else/"),
        container("deep/docker/"), "docker/" + std::string(64, 'g'),
        "docker/" + std::string(64, 'A'), container("docker/docker-"),
        std::string("docker/buildkit"), outer.substr(top_.size() + 1) + "/docker",
        container(outer.substr(top_.size() + 1) + "/"), container("docker-", ".scopes"),
        container("system.slice/docker-", "")}) {
    const std::string path = make(name);
    EXPECT_EQ(number_of(path), 0U) << path;
  }
  EXPECT_TRUE(talks(plain_, outer));
}

TEST_F(Births, EnginesThatAreNotConfiguredAreLeftAlone) {
  must(gate_->quarantine_births({.docker = true}));
  std::ignore = born(container("docker-", ".scope"));
  EXPECT_EQ(number_of(make(container("libpod-", ".scope"))), 0U);
  must(gate_->quarantine_births({.podman = true}));
  std::ignore = born(container("libpod-", ".scope"));
  EXPECT_EQ(number_of(make(container("docker-", ".scope"))), 0U);
}

TEST_F(Births, WhoIsDecidedAboutIsQuarantinedNoLonger) {
  const std::string left = born(container("docker-", ".scope"));
  must(gate_->release(id(left)));
  EXPECT_TRUE(talks(plain_, left));
  const std::string known = born(container("docker-", ".scope"));
  must(gate_->change(compiler_->add(next_number_, labels_of("web"))));
  must(gate_->set(id(known), next_number_++));
  EXPECT_TRUE(talks(known, workload("w", "web")));
  const std::string undecided = born(container("docker-", ".scope"));
  must(gate_->quarantine_births({}));
  EXPECT_TRUE(talks(plain_, undecided)) << "containers are no longer workloads";
  EXPECT_EQ(number_of(make(container("docker-", ".scope"))), 0U);
  EXPECT_EQ(gate_->births().state, gate::Births::State::off);
}

TEST_F(Births, GoOnWithoutADaemon) {
  EXPECT_EQ(gate_->births().state, gate::Births::State::always) << gate_->births().doubt;
  const std::string a = workload("a", "web");
  const Fd left = socket_in(a, AF_INET, SOCK_STREAM);
  const Fd listener = listen_in(plain_);
  policy::Policy policy;
  policy.rules.push_back(allow(workloads("app=web"), host()));
  load(policy);
  gate_.reset();

  const std::string path = make(container("docker-", ".scope"));
  EXPECT_FALSE(talks(plain_, path));
  EXPECT_FALSE(talks(path, plain_));
  ASSERT_TRUE(tree_->remove(a));
  EXPECT_NE(connect(left, port_of(listener)), 0) << "its workload has ended";

  open(policy);  // the next daemon
  EXPECT_EQ(number_of(path), abi::kBorn);
  EXPECT_FALSE(talks(plain_, path)) << "no daemon has decided yet";
  must(gate_->quarantine_births({.docker = true, .podman = true}));
  EXPECT_FALSE(talks(plain_, path));
  must(gate_->release(id(path)));
  EXPECT_TRUE(talks(plain_, path));
  std::ignore = born(container("docker-", ".scope"));
}

/// After an upgrade there is one of each program, not two.
TEST_F(Births, LaterDaemonTakesThePlaceOfTheFormer) {
  const auto pins = [] {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(kBpffs) + "/trireme")) {
      names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  };
  const auto before = pins();
  EXPECT_EQ(before.size(), 4U) << "a directory and three programs";
  for (int i = 0; i < 3; i++) {
    open({});
    EXPECT_EQ(pins(), before);
  }
  EXPECT_EQ(number_of(make(container("docker-", ".scope"))), 0U)
      << "the engines of the former daemon are no longer quarantined";
}

TEST_F(WithoutFileSystem, BirthsAreCaughtWhileTheDaemonRuns) {
  EXPECT_EQ(gate_->births().state, gate::Births::State::while_running);
  EXPECT_NE(gate_->births().doubt.find("/sys/fs/bpf"), std::string::npos);
  std::ignore = born(container("docker-", ".scope"));
  gate_.reset();
  const std::string path = make(container("docker-", ".scope"));
  EXPECT_TRUE(talks(plain_, path));
}

/// Packets on devices other than lo pass without a lookup only while no cgroup is in quarantine.
TEST_F(Births, OtherDevicesAreJudgedAsSoonAsSomebodyIsInQuarantine) {
  ASSERT_EQ(std::system("ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set "
                        "v1 up && ip addr add 10.9.0.1/24 dev v0 && ip neigh add 10.9.0.2 lladdr "
                        "02:00:00:00:00:02 dev v0"),
            0);
  const auto leaves = [this](const std::string& path) {
    const Fd fd = socket_in(path, AF_INET, SOCK_DGRAM);
    sockaddr_in there{};
    there.sin_family = AF_INET;
    there.sin_port = htons(9);
    there.sin_addr.s_addr = htonl(0x0a090002);
    return ::sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), sizeof there) ==
           1;
  };
  must(gate_->look_through());
  EXPECT_TRUE(gate_->is_calm());
  const std::string path = born(container("docker-", ".scope"));
  EXPECT_FALSE(leaves(path)) << "only the kernel knows of it";
  must(gate_->look_through());
  EXPECT_FALSE(gate_->is_calm());
  EXPECT_FALSE(leaves(path));
  must(gate_->set(id(path), abi::kQuarantine));
  EXPECT_FALSE(leaves(path));
  EXPECT_TRUE(leaves(plain_));
  must(gate_->release(id(path)));
  must(gate_->look_through());
  EXPECT_TRUE(gate_->is_calm());
  EXPECT_TRUE(leaves(path));

  const std::string a = workload("a", "web");
  const Fd left = socket_in(a, AF_INET, SOCK_DGRAM);
  must(gate_->look_through());
  EXPECT_TRUE(gate_->is_calm());
  ASSERT_TRUE(tree_->remove(a));
  must(gate_->look_through());
  EXPECT_FALSE(gate_->is_calm()) << "the test still has its socket";
}

}  // namespace
}  // namespace trireme::gate
