#include "agent/launch/guard.hpp"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "agent/base/files.hpp"

namespace updagent::launch {
namespace {

// linux/net.h: the call that socketcall(2) stands for, in its first argument.
constexpr unsigned kSocketcallSetsockopt = 14;
// int arguments: the kernel ignores the upper half of the register, and so must we, or a caller
// that fills it in would not match.
constexpr scmp_datum_t kLowerHalf = 0xffffffff;

struct ReleaseFilter {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

// libseccomp answers with a negative errno.
base::Status done(int answer, const char* what) {
  if (answer >= 0) return base::ok();
  return base::system_error(-answer, std::string("cannot build the service's filter: ") + what);
}

// The other ABIs that a program of this machine may be of. x32 is not among them on purpose: what
// is in no architecture of the filter gets the action for bad ones.
base::Status add_architectures(scmp_filter_ctx filter) {
  UPD_TRY(done(::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)),
               "the action for other architectures"));
  switch (::seccomp_arch_native()) {
    case SCMP_ARCH_X86_64:
      return done(::seccomp_arch_add(filter, SCMP_ARCH_X86), "i386");
    case SCMP_ARCH_AARCH64:
      return done(::seccomp_arch_add(filter, SCMP_ARCH_ARM), "arm");
    case SCMP_ARCH_S390X:
      return done(::seccomp_arch_add(filter, SCMP_ARCH_S390), "s390");
    default:
      return base::ok();
  }
}

base::Status refuse_socket_option(scmp_filter_ctx filter, int option) {
  const std::array<scmp_arg_cmp, 2> arguments = {
      {{1, SCMP_CMP_MASKED_EQ, kLowerHalf, SOL_SOCKET},
       {2, SCMP_CMP_MASKED_EQ, kLowerHalf, static_cast<scmp_datum_t>(option)}}};
  return done(::seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(setsockopt),
                                       arguments.size(), arguments.data()),
              "setsockopt");
}

base::Status refuse_socketcall(scmp_filter_ctx filter) {
  const std::array<scmp_arg_cmp, 1> argument = {
      {{0, SCMP_CMP_MASKED_EQ, kLowerHalf, kSocketcallSetsockopt}}};
  return done(::seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socketcall),
                                       argument.size(), argument.data()),
              "socketcall");
}

base::Status add_rules(scmp_filter_ctx filter, const GuardOptions& options) {
  for (const int option :
       {SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF, SO_DETACH_REUSEPORT_BPF})
    UPD_TRY(refuse_socket_option(filter, option));
  UPD_TRY(refuse_socketcall(filter));
  if (!options.allow_io_uring)
    UPD_TRY(done(::seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup),
                                          0, nullptr),
                 "io_uring_setup"));
  if (options.intercept_bind)
    UPD_TRY(done(::seccomp_rule_add_array(filter, SCMP_ACT_NOTIFY, SCMP_SYS(bind), 0, nullptr),
                 "bind: user notification needs Linux 5.9"));
  return base::ok();
}

base::Result<std::vector<sock_filter>> compile(scmp_filter_ctx filter) {
  const base::UniqueFd file(::memfd_create("filter", MFD_CLOEXEC));
  if (!file) return base::system_error(errno, "cannot make a file in memory");
  UPD_TRY(done(::seccomp_export_bpf(filter, file.get()), "compiling it"));
  struct stat about{};
  if (::fstat(file.get(), &about) != 0) return base::system_error(errno, "cannot look at a filter");
  const auto bytes = static_cast<std::size_t>(about.st_size);
  std::vector<sock_filter> program(bytes / sizeof(sock_filter));
  if (::pread(file.get(), program.data(), bytes, 0) != static_cast<ssize_t>(bytes))
    return base::system_error(errno, "cannot read a filter");
  return program;
}

// A known flag gets as far as reading the program, which is not there.
bool kernel_knows(unsigned flags) {
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, nullptr) != 0 && errno == EFAULT;
}

}  // namespace

base::Result<Guard> Guard::build(const GuardOptions& options) {
  const Filter filter(::seccomp_init(SCMP_ACT_ALLOW));
  if (!filter) return base::Error(base::Code::internal, "libseccomp can't make a filter");
  UPD_TRY(add_architectures(filter.get()));
  UPD_TRY(add_rules(filter.get(), options));
  Guard guard;
  UPD_ASSIGN(guard.program_, compile(filter.get()));
  guard.intercept_bind_ = options.intercept_bind;
  guard.wait_killable_ =
      options.intercept_bind &&
      kernel_knows(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  return guard;
}

int Guard::install() const noexcept {
  const sock_fprog program{static_cast<unsigned short>(program_.size()),
                           const_cast<sock_filter*>(program_.data())};
  // SPEC_ALLOW: before 5.16 a filter turned on a slow defence against side channels in the process,
  // which is for filters that run strangers' code in our process, and this isn't one.
  unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  if (intercept_bind_) flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  if (wait_killable_) flags |= SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  return static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

}  // namespace updagent::launch
