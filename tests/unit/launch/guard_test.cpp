#include "agent/launch/guard.hpp"

#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

sock_filter accept_all[] = {{BPF_RET | BPF_K, 0, 0, 0xffffffff}};
const sock_fprog kAcceptAll = {1, accept_all};

// A member of a reuseport group, as a service has one.
int reuseport_socket() {
  const int socket_fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(socket_fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::listen(socket_fd, 8);
  return socket_fd;
}

std::string errno_words(long answer) {
  return answer >= 0 ? "done" : strerrorname_np(errno);
}

// In a process of its own, under the guard or not.
std::string attack(const Guard* guard, const std::function<std::string()>& what) {
  return said_in_child([&] {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (guard != nullptr && guard->install() < 0) return std::string("not installed");
    return what();
  });
}

class GuardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto built = Guard::build({});
    ASSERT_TRUE(built.has_value()) << built.error().line();
    guard_.emplace(std::move(*built));
  }
  std::optional<Guard> guard_;
};

std::string attach(int option) {
  return errno_words(
      ::setsockopt(reuseport_socket(), SOL_SOCKET, option, &kAcceptAll, sizeof kAcceptAll));
}

std::string attach_and_detach() {
  const int socket_fd = reuseport_socket();
  ::setsockopt(socket_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &kAcceptAll, sizeof kAcceptAll);
  const int on = 1;
  return errno_words(::setsockopt(socket_fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &on, sizeof on));
}

TEST_F(GuardTest, Programs_of_a_reuseport_group_can_be_neither_attached_nor_detached) {
  EXPECT_EQ(attack(nullptr, [] { return attach(SO_ATTACH_REUSEPORT_CBPF); }), "done");
  EXPECT_EQ(attack(nullptr, attach_and_detach), "done");
  EXPECT_EQ(attack(&*guard_, [] { return attach(SO_ATTACH_REUSEPORT_CBPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, [] { return attach(SO_ATTACH_REUSEPORT_EBPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, attach_and_detach), "EPERM");
}

// The kernel takes an int from each register, so garbage above it must not get past the filter.
TEST_F(GuardTest, Garbage_in_the_upper_halves_of_the_registers_does_not_help) {
  const auto with_garbage = [] {
    constexpr long kGarbage = 1L << 40;
    return errno_words(::syscall(SYS_setsockopt, reuseport_socket() + kGarbage,
                                 SOL_SOCKET + kGarbage, SO_ATTACH_REUSEPORT_CBPF + kGarbage,
                                 &kAcceptAll, sizeof kAcceptAll));
  };
  EXPECT_EQ(attack(nullptr, with_garbage), "done");
  EXPECT_EQ(attack(&*guard_, with_garbage), "EPERM");
}

TEST_F(GuardTest, Other_socket_options_are_untouched) {
  EXPECT_EQ(
      attack(&*guard_,
             [] {
               const int socket_fd = reuseport_socket();
               const int on = 1;
               for (const int option : {SO_REUSEADDR, SO_KEEPALIVE, SO_RCVBUF, SO_LOCK_FILTER})
                 if (::setsockopt(socket_fd, SOL_SOCKET, option, &on, sizeof on) != 0)
                   return "option " + std::to_string(option);
               if (::setsockopt(socket_fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on) != 0)
                 return std::string("TCP_DEFER_ACCEPT");
               return std::string("all set");
             }),
      "all set");
  EXPECT_EQ(attack(&*guard_, [] { return attach(SO_ATTACH_FILTER); }), "done");
}

TEST_F(GuardTest, The_refused_numbers_at_other_levels_are_untouched) {
  const auto at_tcp = [] {
    const int on = 1;
    return errno_words(
        ::setsockopt(reuseport_socket(), IPPROTO_TCP, SO_ATTACH_REUSEPORT_CBPF, &on, sizeof on));
  };
  EXPECT_EQ(attack(&*guard_, at_tcp), attack(nullptr, at_tcp));
  EXPECT_NE(attack(&*guard_, at_tcp), "EPERM");
}

TEST_F(GuardTest, Io_uring_is_closed_unless_the_node_opens_it) {
  const auto make_ring = [] {
    io_uring_params parameters{};
    return errno_words(::syscall(SYS_io_uring_setup, 4, &parameters));
  };
  EXPECT_EQ(attack(&*guard_, make_ring), "EPERM");
  const auto open_guard = Guard::build({.allow_io_uring = true});
  ASSERT_TRUE(open_guard.has_value());
  EXPECT_EQ(attack(&*open_guard, make_ring), attack(nullptr, make_ring));
}

TEST_F(GuardTest, Bind_is_untouched_when_nobody_asked_for_it) {
  EXPECT_EQ(attack(&*guard_,
                   [] {
                     const int socket_fd = ::socket(AF_INET, SOCK_STREAM, 0);
                     sockaddr_in address{};
                     address.sin_family = AF_INET;
                     return errno_words(::bind(
                         socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
                   }),
            "done");
}

#ifdef __x86_64__
// The entry of 32-bit programs, which 64-bit ones may use too. Pointers must fit into 32 bits.
long call_i386(long number, long a, long b, long c = 0, long d = 0, long e = 0) {
  long answer = number;
  asm volatile("int $0x80"
               : "+a"(answer)
               : "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
               : "memory", "cc", "r8", "r9", "r10", "r11");
  if (answer >= 0 || answer < -4095) return answer;
  errno = static_cast<int>(-answer);
  return -1;
}

constexpr long kI386Getpid = 20;
constexpr long kI386Socketcall = 102;
constexpr long kI386Setsockopt = 366;
constexpr int kI386SocketcallSetsockopt = 14;
constexpr int kI386SocketcallSocket = 1;

struct LowMemory {
  std::uint32_t arguments[6];
  std::uint32_t program[2];  // struct sock_fprog of i386: length, pointer
  sock_filter filter[1];
  int on;
};

LowMemory* low_memory() {
  void* const memory = ::mmap(nullptr, sizeof(LowMemory), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  auto* const low = static_cast<LowMemory*>(memory);
  low->filter[0] = accept_all[0];
  low->program[0] = 1;
  low->program[1] = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(low->filter));
  low->on = 1;
  return low;
}

std::uint32_t address_of(const void* memory) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(memory));
}

std::string through_i386(int option) {
  LowMemory* const low = low_memory();
  return errno_words(call_i386(kI386Setsockopt, reuseport_socket(), SOL_SOCKET, option,
                               address_of(low->program), sizeof low->program));
}

std::string through_socketcall(int option) {
  LowMemory* const low = low_memory();
  const std::uint32_t arguments[] = {static_cast<std::uint32_t>(reuseport_socket()), SOL_SOCKET,
                                     static_cast<std::uint32_t>(option), address_of(low->program),
                                     sizeof low->program};
  std::memcpy(low->arguments, arguments, sizeof arguments);
  return errno_words(
      call_i386(kI386Socketcall, kI386SocketcallSetsockopt, address_of(low->arguments)));
}

bool has_i386() {
  return said_in_child([] {
           return std::string(call_i386(kI386Getpid, 0, 0) == ::getpid() ? "yes" : "no");
         }) == "yes";
}

TEST_F(GuardTest, The_system_calls_of_32_bit_programs_are_guarded_too) {
  if (!has_i386()) GTEST_SKIP() << "this kernel runs no 32-bit programs";
  EXPECT_EQ(attack(nullptr, [] { return through_i386(SO_ATTACH_REUSEPORT_CBPF); }), "done");
  EXPECT_EQ(attack(&*guard_, [] { return through_i386(SO_ATTACH_REUSEPORT_CBPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, [] { return through_i386(SO_ATTACH_REUSEPORT_EBPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, [] { return through_i386(SO_DETACH_REUSEPORT_BPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, [] { return through_i386(SO_ATTACH_FILTER); }), "done");
}

TEST_F(GuardTest, Socketcall_sets_no_option_but_does_everything_else) {
  if (!has_i386()) GTEST_SKIP() << "this kernel runs no 32-bit programs";
  EXPECT_EQ(attack(nullptr, [] { return through_socketcall(SO_ATTACH_REUSEPORT_CBPF); }), "done");
  EXPECT_EQ(attack(&*guard_, [] { return through_socketcall(SO_ATTACH_REUSEPORT_CBPF); }), "EPERM");
  EXPECT_EQ(attack(&*guard_, [] { return through_socketcall(SO_KEEPALIVE); }), "EPERM");
  EXPECT_EQ(attack(&*guard_,
                   [] {
                     LowMemory* const low = low_memory();
                     const std::uint32_t arguments[] = {AF_INET, SOCK_STREAM, 0};
                     std::memcpy(low->arguments, arguments, sizeof arguments);
                     return errno_words(call_i386(kI386Socketcall, kI386SocketcallSocket,
                                                  address_of(low->arguments)));
                   }),
            "done");
}

TEST_F(GuardTest, The_x32_calls_do_not_exist) {
  constexpr long kX32Bit = 0x40000000;
  constexpr long kX32Setsockopt = 541;
  for (const long number : {SYS_setsockopt + kX32Bit, kX32Setsockopt + kX32Bit})
    EXPECT_EQ(attack(&*guard_,
                     [number] {
                       return errno_words(::syscall(number, reuseport_socket(), SOL_SOCKET,
                                                    SO_ATTACH_REUSEPORT_CBPF, &kAcceptAll,
                                                    sizeof kAcceptAll));
                     }),
              "ENOSYS");
}
#endif

TEST(Guard, Only_one_filter_of_a_process_may_have_a_listener) {
  const auto guard = Guard::build({.intercept_bind = true});
  if (!guard) GTEST_SKIP() << guard.error().line();
  EXPECT_TRUE(guard->intercepts_bind());
  EXPECT_EQ(attack(nullptr,
                   [&] {
                     const base::UniqueFd first(guard->install());
                     return (first ? "first, " : "none, ") + errno_words(guard->install());
                   }),
            "first, EBUSY");
}

TEST(Guard, A_filter_without_a_listener_may_stand_above_and_below_one) {
  const auto plain = Guard::build({});
  const auto with_listener = Guard::build({.intercept_bind = true});
  ASSERT_TRUE(plain && with_listener);
  EXPECT_EQ(attack(&*plain,
                   [&] {
                     const base::UniqueFd listener(with_listener->install());
                     return errno_words(listener.get()) + ", " + errno_words(plain->install());
                   }),
            "done, done");
}

}  // namespace
}  // namespace updagent::launch
