#include "agent/listen/unix_path.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "agent/base/files.hpp"
#include "agent/listen/diag.hpp"
#include "support.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

class UnixPathTest : public ::testing::Test {
 protected:
  UnixPathTest() : spec(spec_for("unix:" + directory.path("http.sock"))) {}
  std::uint64_t inode(const std::string& name) const {
    struct stat status{};
    return ::lstat(directory.path(name).c_str(), &status) == 0 ? status.st_ino : 0;
  }
  bool exists(const std::string& name) const { return inode(name) != 0; }
  // Whose queue a connection to the public name is in.
  bool reaches(const UniqueFd& socket) const {
    const UniqueFd client = connect_to(spec.address);
    if (!client) return false;
    return static_cast<bool>(UniqueFd(::accept(socket.get(), nullptr, nullptr)));
  }
  static UniqueFd new_socket() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    if (!fd) throw std::system_error(errno, std::generic_category(), "socket");
    return fd;
  }
  // A socket of somebody else that is bound to the address; it doesn't listen.
  static UniqueFd strangers_socket(const Address& address) {
    UniqueFd fd = new_socket();
    const SocketAddress raw = to_sockaddr(address);
    if (::bind(fd.get(), raw.get(), raw.length) != 0)
      throw std::system_error(errno, std::generic_category(), address.path);
    return fd;
  }
  test::TestDirectory directory;
  ListenerSpec spec;
};

TEST_F(UnixPathTest, The_public_name_moves_from_one_generation_to_the_next_and_back) {
  const UniqueFd first = must(open_path_socket(spec, 1));
  EXPECT_FALSE(exists("http.sock"));
  must(publish(spec, 1));
  EXPECT_TRUE(reaches(first));
  const UniqueFd second = must(open_path_socket(spec, 2));
  EXPECT_TRUE(reaches(first));
  must(publish(spec, 2));
  EXPECT_TRUE(reaches(second));
  EXPECT_EQ(must(published_generation(spec)), 2U);
  must(publish(spec, 2));  // again: nothing happens
  must(publish(spec, 1));
  EXPECT_TRUE(reaches(first));
  EXPECT_FALSE(exists("http.sock.gnew"));
}

TEST_F(UnixPathTest, A_candidate_can_be_tried_at_its_own_path_before) {
  const UniqueFd first = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  const UniqueFd second = must(open_path_socket(spec, 2));
  Address own = spec.address;
  own.path = generation_path(spec, 2);
  EXPECT_TRUE(connect_to(own));
  EXPECT_EQ(must(unix_accept_queue(second.get())).waiting, 1U);
  EXPECT_EQ(must(unix_accept_queue(first.get())).waiting, 0U);
}

TEST_F(UnixPathTest, Mode_and_owner_are_those_of_the_spec_whatever_the_umask) {
  spec.mode = 0660;
  spec.owner = 65534;
  spec.group = 12345;
  const mode_t before = ::umask(0177);
  const UniqueFd fd = must(open_path_socket(spec, 1));
  ::umask(before);
  must(publish(spec, 1));
  struct stat status{};
  ASSERT_EQ(::stat(spec.address.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0660U);
  EXPECT_EQ(status.st_uid, 65534U);
  EXPECT_EQ(status.st_gid, 12345U);
  EXPECT_EQ(::umask(before), before);
}

TEST_F(UnixPathTest, Nobody_may_connect_before_mode_and_owner_are_set) {
  // what bind(2) makes of the socket's own mode: the reason why no window is open
  const UniqueFd fd = new_socket();
  ASSERT_EQ(::fchmod(fd.get(), 0), 0);
  Address address = spec.address;
  address.path = directory.path("closed.sock");
  const SocketAddress raw = to_sockaddr(address);
  ASSERT_EQ(::bind(fd.get(), raw.get(), raw.length), 0);
  struct stat status{};
  ASSERT_EQ(::stat(address.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0U);
}

TEST_F(UnixPathTest, A_file_at_the_public_name_that_is_no_socket_is_refused) {
  directory.write("http.sock", "mine");
  const UniqueFd fd = must(open_path_socket(spec, 1));
  const auto published = publish(spec, 1);
  ASSERT_FALSE(published);
  EXPECT_NE(published.error().line().find("is no socket"), std::string::npos);
  EXPECT_EQ(directory.read("http.sock"), "mine");
}

TEST_F(UnixPathTest, A_stranger_that_serves_at_the_public_name_is_refused_and_named) {
  const Child stranger([&](const auto& ready) {
    static UniqueFd fd = strangers_socket(spec.address);
    if (::listen(fd.get(), 5) == 0) ready("listening");
  });
  const std::uint64_t before = inode("http.sock");
  const UniqueFd fd = must(open_path_socket(spec, 1));
  const auto published = publish(spec, 1);
  ASSERT_FALSE(published);
  EXPECT_NE(published.error().line().find("pid " + std::to_string(stranger.pid())),
            std::string::npos)
      << published.error().line();
  EXPECT_EQ(inode("http.sock"), before);
}

TEST_F(UnixPathTest, A_dead_socket_at_the_public_name_is_replaced) {
  {
    const UniqueFd dead = strangers_socket(spec.address);
  }
  const UniqueFd fd = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  EXPECT_TRUE(reaches(fd));
}

TEST_F(UnixPathTest, What_dead_generations_left_is_swept_and_the_living_stay) {
  const UniqueFd first = must(open_path_socket(spec, 1));
  {
    const UniqueFd dead = must(open_path_socket(spec, 2));
  }
  {
    const UniqueFd dead = must(open_path_socket(spec, 3));
  }
  const UniqueFd fourth = must(open_path_socket(spec, 4));
  directory.write("http.sock.g5", "not a socket");
  directory.write("http.sock.gnew", "of one that was killed while it published");
  must(publish(spec, 1));
  must(
      sweep_path_sockets(spec, {3}));  // 3 is being started again; 4 is alive though nobody said so
  EXPECT_TRUE(exists("http.sock.g1"));
  EXPECT_FALSE(exists("http.sock.g2"));
  EXPECT_TRUE(exists("http.sock.g3"));
  EXPECT_TRUE(exists("http.sock.g4"));
  EXPECT_TRUE(exists("http.sock.g5"));
  EXPECT_FALSE(exists("http.sock.gnew"));
  EXPECT_TRUE(reaches(first));
}

TEST_F(UnixPathTest, The_public_name_goes_with_the_generation_that_has_it_and_no_other) {
  const UniqueFd first = must(open_path_socket(spec, 1));
  const UniqueFd second = must(open_path_socket(spec, 2));
  must(publish(spec, 2));
  must(remove_path_socket(spec, 1));
  EXPECT_FALSE(exists("http.sock.g1"));
  EXPECT_TRUE(reaches(second));
  must(remove_path_socket(spec, 2));
  EXPECT_FALSE(exists("http.sock.g2"));
  EXPECT_FALSE(exists("http.sock"));
  must(remove_path_socket(spec, 2));  // gone is fine
}

TEST_F(UnixPathTest, A_generation_number_in_use_is_refused_a_dead_one_is_bound_again) {
  {
    const UniqueFd dead = must(open_path_socket(spec, 1));
  }
  const UniqueFd alive = must(open_path_socket(spec, 1));
  EXPECT_FALSE(open_path_socket(spec, 1));
}

TEST_F(UnixPathTest, A_running_servers_name_can_be_taken_over_and_given_back) {
  const UniqueFd running = strangers_socket(spec.address);
  ASSERT_EQ(::listen(running.get(), 5), 0);
  must(adopt_public_name(spec, 0));
  EXPECT_EQ(must(published_generation(spec)), 0U);
  const UniqueFd first = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  EXPECT_TRUE(reaches(first));
  must(publish(spec, 0));
  EXPECT_TRUE(reaches(running));
}

TEST_F(UnixPathTest, A_path_that_is_too_long_for_a_generation_is_refused) {
  spec.address.path = directory.path(std::string(100 - directory.path().size(), 'x'));
  const auto opened = open_path_socket(spec, 1'000'000);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), base::Code::config_invalid);
}

// "away" is where nobody of the app may write, "d" on the way to the listener leads there.
class UnixPathThroughLinksTest : public UnixPathTest {
 protected:
  static constexpr uid_t kOther = 65534;

  UnixPathThroughLinksTest() {
    ::mkdir(directory.path("away").c_str(), 0755);
    ::mkdir(directory.path("in").c_str(), 0755);
    spec = spec_for("unix:" + directory.path("in/d/http.sock"));
  }
  void link(uid_t owner) const {
    ::symlink(directory.path("away").c_str(), directory.path("in/d").c_str());
    ::lchown(directory.path("in/d").c_str(), owner, owner);
  }
  void give_folder(uid_t owner) const { ::chown(directory.path("in").c_str(), owner, owner); }
  std::vector<std::string> away() const {
    return must(base::list_directory(directory.path("away"), 10));
  }
  void expect_refused(const base::Status& status) const {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), base::Code::privilege) << status.error().line();
    EXPECT_NE(status.error().line().find("through the link 'd'"), std::string::npos)
        << status.error().line();
  }
  base::Status opened() const {
    const auto fd = open_path_socket(spec, 1);
    return fd ? base::ok() : base::Status(fd.error());
  }
};

TEST_F(UnixPathThroughLinksTest, A_link_of_ours_in_a_folder_of_ours_is_followed) {
  link(0);
  const UniqueFd fd = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  EXPECT_TRUE(reaches(fd));
  EXPECT_EQ(away(), (std::vector<std::string>{"http.sock", "http.sock.g1"}));
}

TEST_F(UnixPathThroughLinksTest, A_link_of_another_user_is_refused_and_nothing_is_made) {
  link(kOther);
  expect_refused(opened());
  EXPECT_EQ(away(), std::vector<std::string>());
}

TEST_F(UnixPathThroughLinksTest, A_link_in_a_folder_of_another_user_is_refused_whoever_made_it) {
  link(0);
  give_folder(kOther);
  expect_refused(opened());
  give_folder(0);
  ::chmod(directory.path("in").c_str(), 0777);
  expect_refused(opened());
  EXPECT_EQ(away(), std::vector<std::string>());
}

TEST_F(UnixPathThroughLinksTest, A_link_that_comes_later_moves_no_public_name) {
  ::mkdir(directory.path("in/d").c_str(), 0755);
  give_folder(kOther);
  const UniqueFd fd = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  ::rename(directory.path("in/d").c_str(), directory.path("in/was").c_str());
  link(kOther);
  directory.write("away/http.sock.g1", "not the app's");
  expect_refused(publish(spec, 1));
  expect_refused(remove_path_socket(spec, 1));
  expect_refused(sweep_path_sockets(spec, {}));
  EXPECT_EQ(away(), std::vector<std::string>{"http.sock.g1"});
}

TEST_F(UnixPathThroughLinksTest,
       Where_others_can_change_the_way_the_kernel_does_not_walk_it_again) {
  ::mkdir(directory.path("in/d").c_str(), 0755);
  const UniqueFd plain = must(open_path_socket(spec, 1));
  EXPECT_EQ(must(address_of_socket(plain.get())).path, generation_path(spec, 1));
  give_folder(kOther);
  const UniqueFd fd = must(open_path_socket(spec, 2));
  EXPECT_TRUE(must(address_of_socket(fd.get())).path.starts_with("/proc/self/fd/"));
  must(publish(spec, 2));
  EXPECT_TRUE(reaches(fd));
  EXPECT_TRUE(exists("in/d/http.sock.g2"));
}

TEST_F(UnixPathTest, No_connect_fails_while_the_name_moves) {
  // on a busy machine the thread may come late: the name moves until it has tried often enough
  constexpr std::uint64_t kMoves = 150, kAttempts = 100, kMovesAtMost = 1'000'000;
  const UniqueFd first = must(open_path_socket(spec, 1));
  const UniqueFd second = must(open_path_socket(spec, 2));
  must(publish(spec, 1));
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> attempts = 0;
  std::string failures;
  std::thread load([&] {
    while (!stop) {
      ++attempts;
      if (!connect_to(spec.address)) failures += std::string(std::strerror(errno)) + "; ";
    }
  });
  std::uint64_t accepted = 0;
  const auto drain = [&](const UniqueFd& socket) {
    while (UniqueFd(::accept(socket.get(), nullptr, nullptr))) ++accepted;
  };
  std::uint64_t moves = 0;
  for (; moves < kMoves || (attempts < kAttempts && moves < kMovesAtMost); ++moves) {
    must(publish(spec, 1 + moves % 2));
    drain(first);
    drain(second);
  }
  stop = true;
  while (must(unix_accept_queue(first.get())).waiting > 0) drain(first);
  load.join();
  drain(first);
  drain(second);
  EXPECT_EQ(failures, "");
  EXPECT_EQ(accepted, attempts);
  EXPECT_GE(attempts, kAttempts);
}

}  // namespace
}  // namespace updagent::listen
