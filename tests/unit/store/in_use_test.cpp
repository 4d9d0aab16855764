#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "support.hpp"

namespace updagent::store {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace)

// A process that did `prepare` and waits until the object ends.
class Holder {
 public:
  explicit Holder(const std::function<bool()>& prepare) {
    int ready[2] = {-1, -1};
    if (::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      const char answer = prepare() ? 'y' : 'n';
      if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char answer = 'n';
    const base::UniqueFd read_end(ready[0]);
    const base::UniqueFd write_end(ready[1]);
    ready_ = ::read(read_end.get(), &answer, 1) == 1 && answer == 'y';
  }
  ~Holder() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  bool is_ready() const { return ready_; }

 private:
  pid_t pid_ = -1;
  bool ready_ = false;
};

struct InUse : ::testing::Test {
  void SetUp() override {
    for (const char* name : {"tree", "tree/bin", "tree-2"})
      ASSERT_EQ(::mkdir((root / name).c_str(), 0755), 0);
    write_text(root / "tree/bin/x", "content");
  }
  void expect_used_by(const std::function<bool()>& prepare) {
    const Holder holder(prepare);
    ASSERT_TRUE(holder.is_ready());
    const auto used = in_use(tree);
    ASSERT_TRUE(used) << used.error().line();
    EXPECT_TRUE(*used);
  }
  TempDir root;
  std::string tree = root / "tree";
  std::string inner = root / "tree/bin/x";
};

TEST_F(InUse, Nobody_uses_a_fresh_tree_and_our_own_descriptors_do_not_count) {
  const base::UniqueFd own(::open(inner.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(own);
  const auto used = in_use(tree);
  ASSERT_TRUE(used) << used.error().line();
  EXPECT_FALSE(*used);
}

TEST_F(InUse, A_working_directory_below_it_counts) {
  expect_used_by([&] { return ::chdir((tree + "/bin").c_str()) == 0; });
}

TEST_F(InUse, An_open_file_counts) {
  expect_used_by([&] { return ::open(inner.c_str(), O_RDONLY) >= 0; });
}

TEST_F(InUse, An_open_file_that_was_removed_counts) {
  expect_used_by(
      [&] { return ::open(inner.c_str(), O_RDONLY) >= 0 && ::unlink(inner.c_str()) == 0; });
}

TEST_F(InUse, A_mapping_counts) {
  expect_used_by([&] {
    const base::UniqueFd file(::open(inner.c_str(), O_RDONLY));
    return ::mmap(nullptr, 7, PROT_READ, MAP_PRIVATE, file.get(), 0) != MAP_FAILED;
  });
}

TEST_F(InUse, A_name_that_only_begins_alike_does_not_count) {
  const Holder holder([&] { return ::chdir((root / "tree-2").c_str()) == 0; });
  ASSERT_TRUE(holder.is_ready());
  EXPECT_FALSE(*in_use(tree));
  EXPECT_TRUE(*in_use(root / "tree-2"));
}

TEST_F(InUse, A_name_through_a_link_finds_the_real_one) {
  ASSERT_EQ(::symlink("tree", (root / "current").c_str()), 0);
  const Holder holder([&] { return ::chdir(tree.c_str()) == 0; });
  ASSERT_TRUE(holder.is_ready());
  EXPECT_TRUE(*in_use(root / "current"));
}

TEST_F(InUse, A_tree_that_is_not_there_is_an_error) {
  const auto used = in_use(root / "none");
  ASSERT_FALSE(used);
  EXPECT_EQ(used.error().code(), base::Code::io_error);
}

}  // namespace
}  // namespace updagent::store
