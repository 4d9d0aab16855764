#include "agent/launch/output.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>

#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

// Listens where journald would.
class FakeJournal {
 public:
  explicit FakeJournal(const std::string& path, int backlog = 8)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    EXPECT_EQ(::listen(listener_.get(), backlog), 0);
  }
  // What comes until `lines` lines are there.
  std::string read(int lines) {
    const base::UniqueFd stream(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string text;
    char buffer[1024];
    while (std::count(text.begin(), text.end(), '\n') < lines && readable_within(stream.get())) {
      const ssize_t count = ::read(stream.get(), buffer, sizeof buffer);
      if (count <= 0) break;
      text.append(buffer, static_cast<std::size_t>(count));
    }
    return text;
  }

 private:
  base::UniqueFd listener_;
};

OutputRequest request_for(const TestDirectory& directory) {
  OutputRequest request;
  request.journal_socket = directory.path("journal");
  request.identifier = "shop";
  request.unit = "updagent@shop.service";
  request.file = directory.path("log/generation-7.log");
  request.owner = nobody();
  return request;
}

ServiceOutput opened(const OutputRequest& request) {
  auto output = open_output(request);
  EXPECT_TRUE(output.has_value()) << output.error().line();
  return output ? std::move(*output) : ServiceOutput{};
}

void run_to_end(const ServiceOutput& output, const std::string& script) {
  TestSpec spec({"/bin/sh", "-c", script});
  spec.spec.identity = nobody();
  spec.spec.stdout_fd = output.fd.get();
  spec.spec.stderr_fd = output.fd.get();
  auto started = start_service(spec.spec);
  ASSERT_TRUE(started.has_value()) << started.error().line();
  auto watch = ProcessWatch::own(started->identity, std::move(started->pidfd));
  ASSERT_TRUE(readable_within(watch.event_fd()));
  EXPECT_EQ(watch.on_event()->describe(), "exit status 0");
}

TEST(Output, Goes_into_the_journal_where_there_is_one) {
  const TestDirectory directory;
  FakeJournal journal(directory.path("journal"));
  const ServiceOutput output = opened(request_for(directory));
  EXPECT_TRUE(output.in_journal);
  EXPECT_EQ(output.why_file, "");
  EXPECT_EQ(::fcntl(output.fd.get(), F_GETFL) & O_NONBLOCK, 0) << "a stdout waits";
  struct stat about{};
  ::fstat(output.fd.get(), &about);
  EXPECT_EQ(output.journal_stream,
            std::to_string(about.st_dev) + ":" + std::to_string(about.st_ino));
  run_to_end(output, "echo out; echo err >&2");
  EXPECT_EQ(journal.read(9), "shop\nupdagent@shop.service\n6\n1\n0\n0\n0\nout\nerr\n");
  EXPECT_FALSE(std::filesystem::exists(directory.path("log")));
}

TEST(Output, A_line_end_in_a_name_can_t_speak_for_the_next_field) {
  const TestDirectory directory;
  FakeJournal journal(directory.path("journal"));
  OutputRequest request = request_for(directory);
  request.identifier = "shop\nroot.service";
  const ServiceOutput output = opened(request);
  EXPECT_EQ(journal.read(7), "shop\nupdagent@shop.service\n6\n1\n0\n0\n0\n");
}

TEST(Output, Goes_into_a_file_of_the_services_user_where_there_is_none) {
  const TestDirectory directory;
  const OutputRequest request = request_for(directory);
  const ServiceOutput output = opened(request);
  EXPECT_FALSE(output.in_journal);
  EXPECT_EQ(output.journal_stream, "");
  EXPECT_NE(output.why_file.find("there is no journald: cannot connect"), std::string::npos);
  EXPECT_EQ(::fcntl(output.fd.get(), F_GETFL) & (O_APPEND | O_ACCMODE), O_APPEND | O_WRONLY);
  struct stat about{};
  ASSERT_EQ(::stat(request.file.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0640U);
  EXPECT_EQ(about.st_uid, kNobody);
  run_to_end(output, "echo one; echo two >&2; echo three >>/dev/stderr");
  EXPECT_EQ(tail_of_output(request.file, 1000).value(), "one\ntwo\nthree\n");
  // the next start of the same generation goes on behind it
  run_to_end(opened(request), "echo four");
  EXPECT_EQ(tail_of_output(request.file, 1000).value(), "one\ntwo\nthree\nfour\n");
}

TEST(Output, A_journald_that_hangs_makes_nobody_wait) {
  const TestDirectory directory;
  FakeJournal journal(directory.path("journal"), 0);
  const ServiceOutput first = opened(request_for(directory));
  const ServiceOutput second = opened(request_for(directory));
  EXPECT_TRUE(first.in_journal);
  EXPECT_FALSE(second.in_journal);
  EXPECT_NE(second.why_file.find("Resource temporarily unavailable"), std::string::npos);
}

TEST(Output, A_link_that_was_put_in_the_files_place_is_not_followed) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("log"));
  directory.write("victim", "keep\n");
  std::filesystem::create_symlink("../victim", directory.path("log/generation-7.log"));
  EXPECT_FALSE(open_output(request_for(directory)).has_value());
  EXPECT_FALSE(tail_of_output(directory.path("log/generation-7.log"), 10).has_value());
  EXPECT_EQ(directory.read("victim"), "keep\n");
}

TEST(Output, The_tail_begins_with_a_whole_line_and_drives_no_terminal) {
  const TestDirectory directory;
  const std::string path =
      directory.write("log", "first line\nsecond \x1b[31mred\x07\tline\n\xff\n");
  EXPECT_EQ(tail_of_output(path, 1000).value(),
            "first line\nsecond \\x1b[31mred\\x07\tline\n\xEF\xBF\xBD\n");
  EXPECT_EQ(tail_of_output(path, 26).value(), "second \\x1b[31mred\\x07\tline\n\xEF\xBF\xBD\n");
  EXPECT_EQ(tail_of_output(directory.write("empty", ""), 10).value(), "");
  EXPECT_FALSE(tail_of_output(directory.path("none"), 10).has_value());
}

TEST(Output, What_was_punched_out_of_the_file_is_not_shown) {
  const TestDirectory directory;
  const std::string path = directory.write("log", std::string(5000, '\0') + "half a line\nwhole\n");
  EXPECT_EQ(tail_of_output(path, 8000).value(), "whole\n");
}

}  // namespace
}  // namespace updagent::launch
