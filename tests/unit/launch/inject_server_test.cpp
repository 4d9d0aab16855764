// Real, unmodified servers under inject: each answers over the listener that it was given.
#include <gtest/gtest.h>

#include <fstream>

#include "agent/base/files.hpp"
#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/inject_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;

// "" when there is none.
std::string program(const std::string& name) {
  for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/usr/local/go/bin/", "/bin/"})
    if (::access((folder + name).c_str(), X_OK) == 0) return folder + name;
  return "";
}

int execute(const std::vector<std::string>& argv) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const UniqueFd quiet(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {0, 1, 2}) ::dup2(quiet.get(), fd);
  ::execv(words[0], words.data());
  return 127;
}

// The answer to one HTTP request on a fresh connection, "" if none comes.
std::string ask(const Name& name) {
  const UniqueFd client = new_socket(name.storage.ss_family);
  const timeval patience{kPatienceMs / 1000, 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(client.get(), name.get(), name.length) != 0) return "";
  const std::string request = "GET / HTTP/1.0\r\n\r\n";
  if (::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "";
  std::string answer;
  std::array<char, 4096> bytes{};
  for (ssize_t got = 1; got > 0;) {
    got = ::recv(client.get(), bytes.data(), bytes.size(), 0);
    if (got > 0) answer.append(bytes.data(), static_cast<std::size_t>(got));
  }
  return answer;
}

// Starts `argv` under inject, waits for its bind, asks it 20 times and ends it.
void expect_serves(const Listener& listener, const std::vector<std::string>& argv, uid_t user = 0) {
  Supervisor supervisor({listener.described()});
  Target target([&] { return execute(argv); }, {.wait_killable = true, .user = user});
  supervisor.attend(target);
  target.go();
  ASSERT_TRUE(supervisor.serve_until(
      [&] {
        return supervisor.injector().all_bound().has_value() || becomes_readable(target.pidfd(), 0);
      },
      target.pidfd()));
  ASSERT_TRUE(supervisor.injector().all_bound().has_value())
      << supervisor.injector().all_bound().error().line();
  Child clients([&] {
    for (int i = 0; i < 20; ++i)
      if (ask(listener.name()).find("200") == std::string::npos) return 1;
    return 0;
  });
  const UniqueFd end = updagent::base::open_pidfd(clients.pid());
  EXPECT_TRUE(supervisor.serve_until([&] { return becomes_readable(end.get(), 0); }, end.get()));
  EXPECT_EQ(clients.wait(), 0);
  target.kill();
  EXPECT_EQ(target.wait(), 1000 + SIGKILL);
  for (const auto& report : supervisor.reports) EXPECT_FALSE(report.problem.has_value());
}

TEST(InjectServer, Python_http_server) {
  const std::string python = program("python3");
  if (python.empty()) GTEST_SKIP() << "no python3";
  const TestDirectory directory;
  directory.write("index.html", "hello");
  const Listener listener(in_name("0.0.0.0", 0));
  expect_serves(listener,
                {python, "-m", "http.server", std::to_string(listener.port()), "--bind", "0.0.0.0",
                 "--directory", directory.path()},
                kServiceUser);
}

TEST(InjectServer, Node_which_asks_for_every_address_of_both_families) {
  const std::string node = program("node");
  if (node.empty()) GTEST_SKIP() << "no node";
  const Listener listener(in_name("0.0.0.0", 0));
  expect_serves(listener,
                {node, "-e",
                 "require('http').createServer((q, r) => r.end('hello')).listen(" +
                     std::to_string(listener.port()) + ")"},
                kServiceUser);
}

TEST(InjectServer, Nginx_with_two_workers) {
  std::string nginx = program("nginx");
  if (nginx.empty() && ::access("/usr/sbin/nginx", X_OK) == 0) nginx = "/usr/sbin/nginx";
  if (nginx.empty()) GTEST_SKIP() << "no nginx";
  const TestDirectory directory;
  const Listener listener(in_name("0.0.0.0", 0));
  const std::string config = directory.write(
      "nginx.conf", "daemon off; worker_processes 2; user nobody nogroup; pid " +
                        directory.path("pid") + "; error_log /dev/null;\n" +
                        "events {}\nhttp { access_log off; server { listen " +
                        std::to_string(listener.port()) + "; return 200 hello; } }\n");
  expect_serves(listener, {nginx, "-p", directory.path(), "-c", config});
}

TEST(InjectServer, A_static_C_program) {
  const std::string compiler = program("cc");
  if (compiler.empty()) GTEST_SKIP() << "no C compiler";
  const TestDirectory directory;
  const std::string source = directory.write("server.c", R"(
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char** argv) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
  int server = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (struct sockaddr*)&at, sizeof at) || listen(server, 10)) return 1;
  for (;;) {
    char request[512];
    int client = accept(server, 0, 0);
    if (client < 0) return 2;
    if (read(client, request, sizeof request) > 0) write(client, "HTTP/1.0 200 OK\r\n\r\nhello", 24);
    close(client);
  }
})");
  Child build(
      [&] { return execute({compiler, "-w", "-static", "-o", directory.path("server"), source}); });
  ASSERT_EQ(build.wait(), 0);
  const Listener listener(in_name("0.0.0.0", 0));
  expect_serves(listener, {directory.path("server"), std::to_string(listener.port())},
                kServiceUser);
}

TEST(InjectServer, A_static_Go_program) {
  const std::string go = program("go");
  if (go.empty()) GTEST_SKIP() << "no go";
  const TestDirectory directory;
  const Listener listener(in_name("0.0.0.0", 0));
  const std::string source = directory.write("main.go", R"(
package main
import ("net"; "os")
func serve(client net.Conn) {
  client.Read(make([]byte, 512))
  client.Write([]byte("HTTP/1.0 200 OK\r\n\r\nhello"))
  client.Close()
}
func main() {
  server, err := net.Listen("tcp", ":" + os.Args[1])
  if err != nil { panic(err) }
  for {
    if client, err := server.Accept(); err == nil { go serve(client) }
  }
})");
  Child build([&] {
    ::setenv("CGO_ENABLED", "0", 1);
    ::setenv("GOCACHE", directory.path("cache").c_str(), 1);
    return execute({go, "build", "-o", directory.path("server"), source});
  });
  ASSERT_EQ(build.wait(), 0);
  expect_serves(listener, {directory.path("server"), std::to_string(listener.port())},
                kServiceUser);
}

}  // namespace
