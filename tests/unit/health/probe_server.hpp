// A server of tests/support/ as a child of the test, and probes against it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {

class ServerOfTests {
 public:
  ServerOfTests(const std::string& script, const std::vector<std::string>& options) {
    std::array<int, 2> to_server{};
    std::array<int, 2> from_server{};
    EXPECT_EQ(::pipe2(to_server.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from_server.data(), O_CLOEXEC), 0);
    const base::UniqueFd input(to_server[0]);
    const base::UniqueFd output(from_server[1]);
    const base::UniqueFd port_reader(from_server[0]);
    keep_alive_.reset(to_server[1]);
    std::vector<std::string> words = {"python3", UPDAGENT_SOURCE_DIR "/tests/support/" + script};
    words.insert(words.end(), options.begin(), options.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(input.get(), STDIN_FILENO);
      ::dup2(output.get(), STDOUT_FILENO);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
    char byte = 0;
    while (::read(port_reader.get(), &byte, 1) == 1 && byte != '\n') port_ += byte;
    EXPECT_EQ(byte, '\n') << "the server did not start";
  }
  ~ServerOfTests() {
    keep_alive_.reset();  // it ends with its input
    ::waitpid(pid_, nullptr, 0);
  }
  ServerOfTests(const ServerOfTests&) = delete;
  ServerOfTests& operator=(const ServerOfTests&) = delete;

  const std::string& port() const { return port_; }
  std::string url(const std::string& path) const { return "http://127.0.0.1:" + port_ + path; }

 private:
  base::UniqueFd keep_alive_;
  pid_t pid_ = -1;
  std::string port_;
};

class ProbeServer : public ServerOfTests {
 public:
  explicit ProbeServer(const std::vector<std::string>& options = {})
      : ServerOfTests("probe_server.py", options) {}
};

// Short intervals, a timeout that a loaded machine does not reach, one failure decides.
inline release::Probe quick_probe(release::ProbeType type) {
  release::Probe probe;
  probe.name = "p";
  probe.type = type;
  probe.interval = base::Milliseconds(10);
  probe.timeout = base::Milliseconds(20'000);
  probe.failures = 1;
  return probe;
}

inline release::Probe http_probe(const std::string& url) {
  release::Probe probe = quick_probe(release::ProbeType::http);
  probe.url = url;
  return probe;
}

inline release::Probe exec_probe(const std::string& script) {
  release::Probe probe = quick_probe(release::ProbeType::exec);
  probe.command.argv = {"/bin/sh", "-c", script};
  return probe;
}

inline Verdict prove_all(const std::vector<release::Probe>& probes,
                         const ProbeContext& context = {}, const OnResult& on_result = nullptr) {
  auto verdict = prove(probes, context, on_result);
  EXPECT_TRUE(verdict.has_value()) << verdict.error().line();
  return verdict ? *verdict : Verdict{};
}

inline Verdict watch_all(const std::vector<release::Probe>& probes, base::Milliseconds span,
                         const ProbeContext& context = {}, const OnResult& on_result = nullptr,
                         const std::function<void(base::Milliseconds)>& on_tick = nullptr) {
  auto verdict = watch(probes, span, context, on_result, on_tick);
  EXPECT_TRUE(verdict.has_value()) << verdict.error().line();
  return verdict ? *verdict : Verdict{};
}

}  // namespace updagent::health
