// What the tests of fetch/ share: a temporary directory, the faulty server, nginx, and content that
// both sides can make.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::fetch::test {

using Json = nlohmann::json;

// SHA-256 of "SEED:N" for N = 0, 1, ...: the same bytes as in tests/support/faulty_server.py.
std::string content(const std::string& seed, std::size_t size);
std::string read_all(int fd);
// Says where they differ, not what all of them are.
testing::AssertionResult same_bytes(const std::string& got, const std::string& expected);

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& content) const;
  std::string read(const std::string& name) const;
  std::vector<std::string> names(const std::string& sub = "") const;

 private:
  std::string path_;
};

// A process that ends with the object (and with the test, should that be killed).
class Process {
 public:
  Process() = default;
  // `kept_fd` stays open under its number in the child; -1: none. `output_fd` becomes its stdout.
  Process(const std::vector<std::string>& argv, const std::vector<std::string>& extra_environment,
          int kept_fd, int output_fd);
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  void signal(int number) const;
  int wait();  // the wait status

 private:
  pid_t pid_ = -1;
};

class FaultyServer {
 public:
  FaultyServer();
  // What /NAME answers, request by request; the last step repeats.
  void script(const std::string& name, const Json& steps) const;
  std::string url(const std::string& name) const;
  // The headers of each request to /NAME, in order.
  std::vector<Json> requests(const std::string& name) const;

 private:
  TemporaryDirectory directory_;
  std::string port_;
  Process process_;
};

// A bound TCP socket that does not listen: connections to it are refused.
class ReservedPort {
 public:
  explicit ReservedPort(const char* address = "127.0.0.1");
  std::string port() const;
  int fd() const { return socket_.get(); }
  void listen() const;

 private:
  base::UniqueFd socket_;
};

// nginx on a listening socket that it inherits (so there is no port to race for and nothing to wait
// until it is up), serving `www/` of its directory. Access log: "STATUS|RANGE|IF_RANGE|AUTH|PROTO|
// AGENT|ENCODING" per request, complete once stop() has returned.
class Nginx {
 public:
  // `server` stands in the server block; {root} and {port} are replaced.
  explicit Nginx(const std::string& server, const std::string& listen_options = "",
                 const char* address = "127.0.0.1");
  Nginx(ReservedPort port, const std::string& server, const std::string& listen_options,
        const char* address, bool start);
  void start();
  void stop();
  std::string url(const std::string& path, const std::string& scheme = "http") const;
  std::string publish(const std::string& name, const std::string& content) const;
  std::vector<std::string> log() const;
  const TemporaryDirectory& directory() const { return directory_; }

 private:
  std::string address_;
  TemporaryDirectory directory_;
  ReservedPort port_;
  Process process_;
};

// Gives up soon and waits little: everything in milliseconds.
Limits quick_limits();

class FetchTest : public testing::Test {
 protected:
  Request request(const std::string& url);
  std::string downloads() const { return directory_.path() + "/downloads"; }
  // The fetched bytes; a failure of the test when the fetch fails.
  std::string fetched(const Request& request, Fetched* result = nullptr);
  std::uint64_t part_size() const;  // of the only part file; 0 if there is none

  TemporaryDirectory directory_;
  std::vector<Progress> progress_;
};

#ifdef UPDAGENT_FAILPOINTS
inline constexpr bool kHasFailpoints = true;
#else
inline constexpr bool kHasFailpoints = false;  // kills and reboots can't be made then
#endif

// Runs this test binary as `fetch-child`: see main.cpp.
std::vector<std::string> child_command(const std::string& url, const std::string& downloads,
                                       const std::string& options);

}  // namespace updagent::fetch::test
