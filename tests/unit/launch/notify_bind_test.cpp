// Where a notify socket stands, and who may send to it.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "agent/launch/notify_server.hpp"
#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/talk_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;

constexpr uid_t kServiceUser = 65534;
constexpr uid_t kOtherUser = 65533;

class NotifyBind : public ::testing::Test {
 protected:
  static Membership membership() {
    Membership out;
    out.has_process = [](pid_t) { return true; };
    return out;
  }
  std::unique_ptr<NotifyServer> serve() {
    auto server = NotifyServer::bind(path_, kServiceUser, membership());
    EXPECT_TRUE(server.has_value()) << server.error().line();
    return server ? std::move(*server) : nullptr;
  }

  TestDirectory directory_;
  std::string path_ = directory_.path("notify");
};

TEST_F(NotifyBind, The_services_user_can_send_and_another_user_cannot) {
  auto server = serve();
  struct stat status{};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(status.st_uid, kServiceUser);
  const auto send_as = [&](uid_t user) {
    Child child([&] { return ::setuid(user) == 0 ? send_notify(path_, "READY=1") : 255; });
    return WEXITSTATUS(child.wait());
  };
  EXPECT_EQ(send_as(kServiceUser), 0);
  EXPECT_EQ(send_as(kOtherUser), EACCES);
}

TEST_F(NotifyBind, A_successor_serves_the_same_path) {
  serve().reset();
  EXPECT_EQ(send_notify(path_, "READY=1"), ECONNREFUSED) << "without a server it is harmless";
  auto successor = serve();
  EXPECT_EQ(send_notify(path_, "STATUS=again"), 0);
  int messages = 0;
  successor->on_event([&](NotifyEvent& event) { messages += event.counts ? 1 : 0; });
  EXPECT_EQ(messages, 1);
  successor->remove_path();
  EXPECT_EQ(send_notify(path_, "STATUS=x"), ENOENT);
}

TEST_F(NotifyBind, Only_a_dead_socket_is_replaced) {
  directory_.write("notify", "somebody's data");
  EXPECT_FALSE(NotifyServer::bind(path_, kServiceUser, membership()).has_value());
  EXPECT_EQ(directory_.read("notify"), "somebody's data");
  ::unlink(path_.c_str());
  ASSERT_EQ(::symlink("elsewhere", path_.c_str()), 0);
  EXPECT_FALSE(NotifyServer::bind(path_, kServiceUser, membership()).has_value());
}

TEST_F(NotifyBind, A_folder_that_others_can_write_to_is_refused) {
  ::chmod(directory_.path().c_str(), 0777);
  auto open_folder = NotifyServer::bind(path_, kServiceUser, membership());
  ASSERT_FALSE(open_folder.has_value());
  EXPECT_NE(open_folder.error().line().find("0777"), std::string::npos);
  ::chmod(directory_.path().c_str(), 0755);
  ASSERT_EQ(::chown(directory_.path().c_str(), kServiceUser, kServiceUser), 0);
  EXPECT_FALSE(NotifyServer::bind(path_, kServiceUser, membership()).has_value());
}

TEST_F(NotifyBind, A_path_that_no_service_could_send_to_is_refused) {
  const std::string folder = directory_.path(std::string(100, 'd'));
  ASSERT_EQ(::mkdir(folder.c_str(), 0755), 0);
  for (const std::string& path : {folder + "/notify", std::string("relative/notify"), folder + "/"})
    EXPECT_FALSE(NotifyServer::bind(path, kServiceUser, membership()).has_value()) << path;
}

}  // namespace
