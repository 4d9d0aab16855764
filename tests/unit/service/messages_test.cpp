#include "agent/service/messages.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "tests/unit/base/test_directory.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::UniqueFd;

struct Pair {
  UniqueFd here;
  UniqueFd there;
  Pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    here.reset(ends[0]);
    there.reset(ends[1]);
  }
};

TEST(Messages, Text_and_a_descriptor_arrive_together) {
  const Pair pair;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_message(pair.here.get(), "hello", file.get()));
  auto got = receive_message(pair.there.get());
  ASSERT_TRUE(got && *got);
  EXPECT_EQ((*got)->text, "hello");
  ASSERT_EQ((*got)->descriptors.size(), 1U);
  EXPECT_TRUE(::fcntl((*got)->descriptors.front().get(), F_GETFD) & FD_CLOEXEC);
}

TEST(Messages, Nothing_there_is_no_error) {
  const Pair pair;
  const auto got = receive_message(pair.there.get());
  ASSERT_TRUE(got);
  EXPECT_FALSE(*got);
}

TEST(Messages, The_end_of_a_connection_is_an_error) {
  Pair pair;
  pair.here.reset();
  const auto got = receive_message(pair.there.get());
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::io_error);
  EXPECT_FALSE(send_message(pair.there.get(), "anybody?"));
}

TEST(Messages, One_that_is_too_long_is_not_sent_and_not_taken) {
  const Pair pair;
  const std::string longest(kMaxMessageBytes, 'x');
  ASSERT_TRUE(send_message(pair.here.get(), longest));
  const auto got = receive_message(pair.there.get());
  ASSERT_TRUE(got && *got);
  EXPECT_EQ((*got)->text.size(), kMaxMessageBytes);
  const std::string longer = longest + "x";
  EXPECT_FALSE(send_message(pair.here.get(), longer));
  ASSERT_EQ(::send(pair.here.get(), longer.data(), longer.size(), 0),
            static_cast<ssize_t>(longer.size()));
  EXPECT_FALSE(receive_message(pair.there.get()));
}

TEST(Messages, More_descriptors_than_there_may_be_are_closed_and_refused) {
  const Pair pair;
  std::array<int, kMaxMessageDescriptors + 1> copies{};
  std::vector<UniqueFd> owners;
  for (int& copy : copies) {
    owners.emplace_back(::fcntl(pair.here.get(), F_DUPFD_CLOEXEC, 3));
    copy = owners.back().get();
  }
  union {
    cmsghdr aligned;
    std::array<char, CMSG_SPACE(sizeof copies)> bytes;
  } control{};
  char text = 'x';
  iovec part{&text, 1};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = sizeof control.bytes;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof copies);
  std::copy_n(reinterpret_cast<const char*>(copies.data()), sizeof copies,
              reinterpret_cast<char*>(CMSG_DATA(rights)));
  ASSERT_EQ(::sendmsg(pair.here.get(), &header, 0), 1);
  EXPECT_FALSE(receive_message(pair.there.get()));
}

TEST(Messages, Who_does_not_read_is_not_waited_for) {
  const Pair pair;
  const std::string text(1024, 'x');
  constexpr int kMoreThanAnyQueue = 100'000;
  base::Status sent = base::ok();
  for (int i = 0; i < kMoreThanAnyQueue && sent; ++i) sent = send_message(pair.here.get(), text);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), Code::busy);
}

TEST(Messages, A_socket_is_its_owners_and_replaces_a_dead_one) {
  const test::TestDirectory folder;
  const std::string path = folder.path() + "/control";
  EXPECT_EQ(connect_to(path).error().code(), Code::not_found);
  auto listener = listen_at(path);
  ASSERT_TRUE(listener);
  struct stat about{};
  ASSERT_EQ(::stat(path.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);
  EXPECT_TRUE(connect_to(path));
  listener->reset();
  EXPECT_EQ(connect_to(path).error().code(), Code::not_found);
  EXPECT_TRUE(listen_at(path));
}

TEST(Messages, A_path_that_is_too_long_is_refused_with_a_way_out) {
  const auto refused = listen_at("/" + std::string(200, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::config_invalid);
  EXPECT_FALSE(refused.error().hint().empty());
}

}  // namespace
}  // namespace updagent::service
