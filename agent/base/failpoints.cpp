#include "agent/base/failpoints.hpp"

#ifdef UPDAGENT_FAILPOINTS

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace updagent::base::failpoint {
namespace {

constexpr int kActionKill = -1;
constexpr int kActionStop = -2;

struct Rule {
  std::string name;
  unsigned long at = 1;
  bool and_later = false;
  int action = 0;  // an errno, or one of the above

  bool fits(std::string_view passed, unsigned long count) const {
    if (name != passed) return false;
    return at == count || at == 0 || (and_later && count > at);
  }
};

int parse_action(const std::string& word) {
  static constexpr std::array<std::pair<const char*, int>, 10> kErrnos = {
      {{"ENOSPC", ENOSPC},
       {"EIO", EIO},
       {"EXDEV", EXDEV},
       {"EMLINK", EMLINK},
       {"EACCES", EACCES},
       {"EROFS", EROFS},
       {"EDQUOT", EDQUOT},
       {"EOPNOTSUPP", EOPNOTSUPP},
       {"kill", kActionKill},
       {"stop", kActionStop}}};
  for (const auto& [name, value] : kErrnos)
    if (word == name) return value;
  std::abort();  // a misspelt failpoint must not let a test pass
}

// The only state of the process that outlives a call: read once from the environment.
class Table {
 public:
  Table() {
    if (const char* trace = std::getenv("UPDAGENT_FAILPOINTS_TRACE"); trace != nullptr)
      trace_path_ = trace;
    const char* text = std::getenv("UPDAGENT_FAILPOINTS");
    std::string rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
      const std::size_t end = rest.find(';');
      const std::string item = rest.substr(0, end);
      rest = end == std::string::npos ? "" : rest.substr(end + 1);
      const std::size_t equals = item.find('=');
      if (equals == std::string::npos) std::abort();
      Rule rule{item.substr(0, equals), 1, false, parse_action(item.substr(equals + 1))};
      if (const std::size_t hash = rule.name.find('#'); hash != std::string::npos) {
        rule.at = std::strtoul(rule.name.c_str() + hash + 1, nullptr, 10);
        rule.and_later = rule.name.back() == '+';
        rule.name.resize(hash);
      }
      rules_.push_back(std::move(rule));
    }
  }

  int pass(std::string_view name) {
    const std::scoped_lock lock(mutex_);
    trace(name);
    if (rules_.empty()) return 0;
    const unsigned long count = ++passed_[std::string(name)];
    for (const Rule& rule : rules_) {
      if (!rule.fits(name, count)) continue;
      if (rule.action == kActionKill) ::kill(::getpid(), SIGKILL);
      if (rule.action == kActionStop) ::raise(SIGSTOP);
      if (rule.action > 0) return rule.action;
    }
    return 0;
  }

 private:
  void trace(std::string_view name) const {
    if (trace_path_.empty()) return;
    const int fd = ::open(trace_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return;
    const std::string line = std::string(name) + "\n";
    static_cast<void>(!::write(fd, line.data(), line.size()));
    ::close(fd);
  }

  std::mutex mutex_;
  std::vector<Rule> rules_;
  std::map<std::string, unsigned long> passed_;
  std::string trace_path_;
};

Table& table() {
  static Table instance;
  return instance;
}

}  // namespace

void hit(std::string_view name) {
  static_cast<void>(table().pass(name));
}
int fail(std::string_view name) {
  return table().pass(name);
}

}  // namespace updagent::base::failpoint

#endif
