#include "agent/listen/steer_program.hpp"

#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>

#include "agent/base/text.hpp"
#include "agent/listen/policy.h"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxLogKept = 2048;  // the verifier's last words are the ones that say why
constexpr std::size_t kMaxLogLine = 512;

struct CloseObject {
  void operator()(bpf_object* object) const { ::bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

// libbpf speaks through one function for the whole process.
std::string& load_log() {
  static thread_local std::string text;
  return text;
}

[[gnu::format(printf, 2, 0)]] int keep_line(libbpf_print_level level, const char* format,
                                            va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  std::array<char, kMaxLogLine> line{};
  const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
  std::string& text = load_log();
  text += line.data();
  if (text.size() > kMaxLogKept) text.erase(0, text.size() - kMaxLogKept);
  return length;
}

// While it lives libbpf's words are kept instead of going to stderr.
class LogCapture {
 public:
  LogCapture() : before_(::libbpf_set_print(keep_line)) { load_log().clear(); }
  ~LogCapture() {
    ::libbpf_set_print(before_);
    load_log().clear();
    load_log().shrink_to_fit();
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

 private:
  libbpf_print_fn_t before_;
};

Error load_error(int errno_value) {
  Error error = base::system_error(errno_value, "the kernel does not take the steering program");
  if (!load_log().empty()) error = std::move(error).got(base::printable(load_log()));
  if (errno_value == EPERM) error = std::move(error).hint("it needs CAP_BPF (root has it)");
  return error;
}

bool use_map(bpf_object* object, const char* name, int fd) {
  bpf_map* map = ::bpf_object__find_map_by_name(object, name);
  return map != nullptr && ::bpf_map__reuse_fd(map, fd) == 0;
}

}  // namespace

MapShape policy_shape() {
  return {"updagent_policy", BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t), sizeof(SteeringPolicy), 1,
          BPF_F_MMAPABLE};
}

MapShape slots_shape() {
  return {"updagent_slots",
          BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
          sizeof(std::uint32_t),
          sizeof(std::uint64_t),
          kMaxSlots,
          0};
}

MapShape counters_shape() {
  return {"updagent_counts",     BPF_MAP_TYPE_PERCPU_ARRAY,
          sizeof(std::uint32_t), sizeof(SteeringCounters),
          kCounterRows,          0};
}

Result<UniqueFd> load_steer_program(const SteerMaps& maps) {
  const LogCapture capture;
  const auto bytes = steer_object();
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "updagent_steer";
  const Object object(::bpf_object__open_mem(bytes.data(), bytes.size(), &options));
  if (!object) return load_error(errno);
  if (!use_map(object.get(), "policy_map", maps.policy_fd) ||
      !use_map(object.get(), "slots_map", maps.slots_fd) ||
      !use_map(object.get(), "counters_map", maps.counters_fd))
    return load_error(errno);
  if (::bpf_object__load(object.get()) != 0) return load_error(errno);
  const bpf_program* program = ::bpf_object__find_program_by_name(object.get(), "updagent_steer");
  if (program == nullptr)
    return Error(base::Code::internal, "the built-in object has no steering program");
  return duplicate_fd(::bpf_program__fd(program));
}

Status attach_steer_program(int socket_fd, int program_fd) {
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &program_fd,
                   sizeof program_fd) == 0)
    return base::ok();
  return base::system_error(errno, "cannot attach the steering program to a socket");
}

}  // namespace updagent::listen
