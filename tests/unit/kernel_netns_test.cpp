// SPDX-License-Identifier: Apache-2.0
// Enters and leaves network namespaces that the test creates. Needs root.
#include "trireme/kernel/netns.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <stdexcept>

#include "kernel_support.hpp"

namespace trireme::kernel {
namespace {

class NetnsTest : public NamespaceTest {
 protected:
  /// Starts a process in a network namespace of its own.
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const Fd ready(pipe[0]);
    Fd tell(pipe[1]);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char done = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
      (void)!::write(tell.get(), &done, 1);
      ::pause();
      ::_exit(0);
    }
    tell.reset();
    char done = 0;
    ASSERT_EQ(::read(ready.get(), &done, 1), 1);
    ASSERT_EQ(done, 'y');
  }
  void TearDown() override { end(); }
  void end() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
      child_ = -1;
    }
  }
  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(child_); }

  pid_t child_ = -1;
};

TEST_F(NetnsTest, ACallIsInsideAndComesBack) {
  const auto home = Netns::own();
  const auto other = Netns::of_process(pid());
  ASSERT_TRUE(home && other);
  EXPECT_NE((*home)->inode(), (*other)->inode());
  std::uint64_t inside = 0;
  std::unique_ptr<NftSocket> nft;
  ASSERT_TRUE((*other)->within([&] {
    inside = (*Netns::own())->inode();
    nft = std::make_unique<NftSocket>(std::move(*NftSocket::open()));
  }));
  EXPECT_EQ(inside, (*other)->inode());
  EXPECT_EQ((*Netns::own())->inode(), (*home)->inode());
  NftBatch batch(kTestTable);
  batch.add_table();
  ASSERT_TRUE(nft->commit(std::move(batch)));
  EXPECT_EQ(nft->table_exists(kTestTable), true)
      << "a socket stays in the namespace in which it was opened";
  EXPECT_EQ(nft_->table_exists(kTestTable), false);
}

TEST_F(NetnsTest, ItLivesWhileItIsHeld) {
  const auto other = Netns::of_process(pid());
  ASSERT_TRUE(other);
  end();
  std::uint64_t inside = 0;
  ASSERT_TRUE((*other)->within([&] { inside = (*Netns::own())->inode(); }));
  EXPECT_EQ(inside, (*other)->inode());
}

TEST_F(NetnsTest, AnExceptionComesBackToo) {
  const auto home = Netns::own();
  const auto other = Netns::of_process(pid());
  ASSERT_TRUE(home && other);
  EXPECT_THROW((void)(*other)->within([] { throw std::runtime_error("inside"); }),
               std::runtime_error);
  EXPECT_EQ((*Netns::own())->inode(), (*home)->inode());
}

TEST_F(NetnsTest, TheOwnOneNeedsNoEntering) {
  const auto home = Netns::own();
  const auto same = Netns::of_process(static_cast<std::uint32_t>(::getpid()));
  ASSERT_TRUE(home && same);
  EXPECT_EQ((*home)->inode(), (*same)->inode());
  bool called = false;
  ASSERT_TRUE((*same)->within([&] { called = true; }));
  EXPECT_TRUE(called);
}

TEST_F(NetnsTest, AProcessThatIsGoneHasNone) {
  const std::uint32_t gone = pid();
  end();
  const auto none = Netns::of_process(gone);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("/proc/" + std::to_string(gone)), std::string::npos);
}

}  // namespace
}  // namespace trireme::kernel
