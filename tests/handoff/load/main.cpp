// loadclient: makes HTTP requests and says of each attempt what became of it. One process, one
// epoll loop, so that it leaves the machine to what it measures.
//
//   loadclient --seconds 30 --flow "fresh target=tcp:127.0.0.1:8080 connections=16 rate=2000"
//              --flow "kept target=tcp:127.0.0.1:8080 keepalive=1 connections=50 rate=1000"
//              --flow "files target=tcp:127.0.0.1:8080 path=/stream?bytes=1000000&rate=200000
//                      stream=1000000 connections=20"
//
// Each flow is counted apart; --help lists its keys. Standard input takes commands, one a line:
//   mark NAME          says when it was read; windows end here
//   expect FLOW GENS   from now on only these generations may answer ("2,3"; "*": any)
//   stop               begins nothing more, waits for what is in flight, ends
// and its end means stop. Standard output has one JSON document a line, times in ns of
// CLOCK_MONOTONIC (Python: time.monotonic_ns()), latencies in microseconds:
//   {"event":"started"} {"event":"mark"} {"event":"failure"} {"event":"window"} {"event":"result"}
// A window has the requests of one flow that became due in it; it is said when all of them ended.
// Latencies are from when a request was due: with a rate, waiting for a free connection counts.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/handoff/load/flow.hpp"
#include "tests/handoff/load/output.hpp"
#include "tests/handoff/load/reactor.hpp"
#include "tests/handoff/load/spec.hpp"

namespace load {
namespace {

constexpr std::uint16_t kStdin = std::numeric_limits<std::uint16_t>::max();
constexpr std::size_t kMaxCommand = 4096;

struct Options {
  std::vector<std::string> flows;
  std::int64_t seconds = 60;
  std::int64_t requests = 0;  // of each flow that doesn't say
  std::int64_t window_ms = 100;
  std::int64_t drain_ms = 10'000;  // after the end, for what is in flight
};

class Client {
 public:
  explicit Client(const Options& options) : options_(options) {}
  std::optional<std::string> add_flows();
  void run();

 private:
  void watch_input();
  void turn(std::int64_t until_us);
  void read_commands();
  void command(const std::vector<std::string>& words);
  void mark(const std::string& name);
  void begin_windows(std::int64_t now);
  void say_windows(bool all);
  void stop(std::int64_t now);
  bool done() const;
  Json result(std::int64_t started_us) const;

  const Options options_;
  Reactor reactor_;
  Output output_;
  std::vector<std::unique_ptr<Flow>> flows_;
  std::string input_;
  std::int64_t next_window_us_ = 0;
  std::int64_t stop_us_ = 0;
  bool stopping_ = false;
  std::int64_t turn_max_us_ = 0;  // how long others had to wait for one turn of the loop
};

std::optional<std::string> Client::add_flows() {
  for (const std::string& text : options_.flows) {
    Spec spec;
    spec.requests = options_.requests;
    if (auto mistake = parse_spec(text, spec)) return mistake;
    flows_.push_back(std::make_unique<Flow>(std::move(spec),
                                            static_cast<std::uint16_t>(flows_.size()), reactor_,
                                            [this](const Json& j) { output_.line(j); }));
  }
  if (flows_.empty() || flows_.size() >= kStdin) return "no --flow";
  return std::nullopt;
}

// A pipe is watched. /dev/null and files are not, or each run from a script would end at once.
void Client::watch_input() {
  struct stat status{};
  if (::fstat(STDIN_FILENO, &status) != 0 ||
      !(S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)))
    return;
  ::fcntl(STDIN_FILENO, F_SETFL, ::fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
  reactor_.watch(STDIN_FILENO, {kStdin, 0, 0});
}

void Client::run() {
  const std::int64_t started_us = now_us();
  stop_us_ = started_us + options_.seconds * 1'000'000;
  output_.line({{"event", "started"}, {"at_ns", started_us * 1000}, {"pid", ::getpid()}});
  begin_windows(started_us);
  for (const auto& flow : flows_) flow->start(started_us);
  watch_input();
  while (!done()) {
    const std::int64_t now = now_us();
    if (!stopping_ && now >= stop_us_) stop(now);
    if (stopping_ && now >= stop_us_ + options_.drain_ms * 1000)
      for (const auto& flow : flows_) flow->abandon();
    if (now >= next_window_us_) begin_windows(now);
    std::int64_t until_us =
        std::min(next_window_us_, stopping_ ? stop_us_ + options_.drain_ms * 1000 : stop_us_);
    for (const auto& flow : flows_) until_us = std::min(until_us, flow->pump(now_us()));
    turn(until_us);
  }
  say_windows(true);
  output_.line(result(started_us));
  output_.flush(true);
}

void Client::turn(std::int64_t until_us) {
  const auto& events = reactor_.wait(until_us);
  const std::int64_t woke_us = now_us();
  for (const Reactor::Event& event : events) {
    if (event.token.flow == kStdin)
      read_commands();
    else
      flows_[event.token.flow]->on_socket(event.token, event.events);
  }
  Reactor::Alarm alarm;
  while (reactor_.take_alarm(woke_us, alarm)) flows_[alarm.flow]->on_alarm(alarm);
  say_windows(false);
  output_.flush();
  turn_max_us_ = std::max(turn_max_us_, now_us() - woke_us);
}

void Client::read_commands() {
  std::array<char, kMaxCommand> buffer{};
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (got <= 0) {
      stop(now_us());
      break;
    }
    input_.append(buffer.data(), static_cast<std::size_t>(got));
  }
  for (auto end = input_.find('\n'); end != std::string::npos; end = input_.find('\n')) {
    command(split(input_.substr(0, end), ' '));
    input_.erase(0, end + 1);
  }
}

void Client::command(const std::vector<std::string>& words) {
  if (words.size() == 1 && words[0] == "stop") {
    stop(now_us());
  } else if (words.size() == 2 && words[0] == "mark") {
    mark(words[1]);
  } else if (words.size() == 3 && words[0] == "expect") {
    const auto generations = words[2] == "*" ? std::vector<std::string>() : split(words[2], ',');
    for (const auto& flow : flows_)
      if (flow->spec().name == words[1]) flow->expect(generations);
    mark("expect");
  } else {
    output_.line({{"event", "error"}, {"problem", "unknown command"}, {"words", words}});
  }
}

void Client::mark(const std::string& name) {
  const std::int64_t now = now_us();
  begin_windows(now);
  output_.line({{"event", "mark"}, {"name", name}, {"at_ns", now * 1000}});
}

void Client::begin_windows(std::int64_t now) {
  for (const auto& flow : flows_) flow->tally().begin_window(now);
  next_window_us_ = now + options_.window_ms * 1000;
}

void Client::say_windows(bool all) {
  Json window;
  for (const auto& flow : flows_)
    while (flow->tally().take_window(all, now_us(), window)) output_.line(window);
}

void Client::stop(std::int64_t now) {
  if (stopping_) return;
  stopping_ = true;
  stop_us_ = now;
  for (const auto& flow : flows_) flow->stop();
}

bool Client::done() const {
  return std::all_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow->done(); });
}

Json Client::result(std::int64_t started_us) const {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto microseconds = [](const timeval& time) {
    return std::int64_t{time.tv_sec} * 1'000'000 + time.tv_usec;
  };
  Json flows = Json::object();
  for (const auto& flow : flows_) flows[flow->spec().name] = flow->tally().result();
  return {{"event", "result"},
          {"started_ns", started_us * 1000},
          {"ended_ns", now_us() * 1000},
          {"client",
           {{"cpu_us", microseconds(usage.ru_utime) + microseconds(usage.ru_stime)},
            {"turn_max_us", turn_max_us_}}},
          {"flows", std::move(flows)}};
}

std::string help_text() {
  std::string text =
      "usage: loadclient --flow 'NAME target=... [key=value]...' [--flow ...]... [--seconds N "
      "(60)]\n"
      "                  [--requests N (of each flow; 0: no limit)] [--window MS (100)]\n"
      "                  [--drain MS (10000)]\n"
      "keys of a flow (and what they are if not given):\n";
  for (const Key& key : keys())
    text += "  " + std::string(key.name) + "=  " + std::string(key.help) + "\n";
  return text;
}

std::optional<std::string> read_options(std::span<char* const> words, Options& options) {
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    const std::string word = words[i];
    const auto number = parse_number(words[i + 1]);
    std::int64_t* target = word == "--seconds"    ? &options.seconds
                           : word == "--requests" ? &options.requests
                           : word == "--window"   ? &options.window_ms
                           : word == "--drain"    ? &options.drain_ms
                                                  : nullptr;
    if (word == "--flow")
      options.flows.emplace_back(words[i + 1]);
    else if (target == nullptr || !number)
      return word + ": not understood";
    else
      *target = *number;
  }
  if (words.size() % 2 == 0) return std::string(words.back()) + ": a value is missing";
  if (options.window_ms < 1) return "--window: expected at least 1";
  return std::nullopt;
}

void allow_many_sockets() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace
}  // namespace load

int main(int argc, char** argv) {
  constexpr int kExitUsage = 2;
  const std::span<char* const> words(argv, static_cast<std::size_t>(argc));
  if (argc == 2 && std::string(words[1]) == "--help") {
    std::fputs(load::help_text().c_str(), stdout);
    return 0;
  }
  load::Options options;
  auto mistake = load::read_options(words, options);
  load::allow_many_sockets();
  load::Client client(options);
  if (!mistake) mistake = client.add_flows();
  if (mistake) {
    std::fprintf(stderr, "loadclient: %s; try --help\n", mistake->c_str());
    return kExitUsage;
  }
  client.run();
  return 0;
}
