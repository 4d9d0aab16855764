#include "agent/listen/netlink.hpp"

#include <linux/sock_diag.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/failpoints.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kReceiveBuffer = 64 * 1024;  // the kernel fills at most 32 KiB of one
constexpr timeval kPatience = {5, 0};              // it answers at once; this is for a broken one
constexpr std::uint32_t kSequence = 1;

constexpr std::size_t kMaxQuestion = 512;  // the longest request of sock_diag has 72 bytes

std::size_t aligned(std::size_t size) {
  return (size + NLMSG_ALIGNTO - 1) & ~std::size_t{NLMSG_ALIGNTO - 1};
}

Result<UniqueFd> send_question(std::span<const std::byte> request, std::uint16_t flags) {
  if (const int injected = base::failpoint::fail("sys.sock_diag"); injected != 0)
    return base::system_error(injected, "cannot ask sock_diag");
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return base::system_error(errno, "cannot ask sock_diag");
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  std::array<std::byte, kMaxQuestion> message{};
  const std::size_t size = aligned(sizeof(nlmsghdr)) + request.size();
  if (size > message.size())
    return Error(base::Code::internal, "a question to sock_diag is too long");
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(size);
  header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header.nlmsg_seq = kSequence;
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + aligned(sizeof header), request.data(), request.size());
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  while (::sendto(fd.get(), message.data(), size, 0, reinterpret_cast<const sockaddr*>(&kernel),
                  sizeof kernel) < 0)
    if (errno != EINTR) return base::system_error(errno, "cannot ask sock_diag");
  return fd;
}

enum class Read { more, end, again, absent };

// What one datagram of the kernel says.
Result<Read> read_messages(std::span<const std::byte> bytes, const DiagVisitor& visit) {
  bool interrupted = false;
  while (bytes.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > bytes.size()) break;
    const auto payload = bytes.subspan(sizeof header, header.nlmsg_len - sizeof header);
    bytes = bytes.subspan(std::min(aligned(header.nlmsg_len), bytes.size()));
    if (header.nlmsg_seq != kSequence) continue;
    interrupted = interrupted || (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (header.nlmsg_type == NLMSG_DONE) return interrupted ? Read::again : Read::end;
    if (header.nlmsg_type == NLMSG_ERROR) {
      int code = 0;
      if (payload.size() >= sizeof code) std::memcpy(&code, payload.data(), sizeof code);
      if (code == 0) continue;
      if (code == -ENOENT) return Read::absent;
      return base::system_error(-code, "sock_diag refused a question");
    }
    visit(DiagAnswer(payload));
  }
  return interrupted ? Read::again : Read::more;
}

// Bytes received, or 0 when the kernel had no room for all its answers.
Result<std::size_t> receive(int fd, std::span<std::byte> buffer) {
  for (;;) {
    sockaddr_nl sender{};
    socklen_t length = sizeof sender;
    const ssize_t count = ::recvfrom(fd, buffer.data(), buffer.size(), MSG_TRUNC,
                                     reinterpret_cast<sockaddr*>(&sender), &length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == ENOBUFS) return std::size_t{0};
    if (count < 0) return base::system_error(errno, "no answer from sock_diag");
    if (sender.nl_pid != 0) continue;  // only the kernel may answer
    const auto size = static_cast<std::size_t>(count);
    return size > buffer.size() ? std::size_t{0} : size;
  }
}

}  // namespace

std::span<const std::byte> DiagAnswer::attribute(std::size_t header_size,
                                                 std::uint16_t type) const {
  auto rest = payload_.subspan(std::min(aligned(header_size), payload_.size()));
  while (rest.size() >= sizeof(nlattr)) {
    nlattr header{};
    std::memcpy(&header, rest.data(), sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > rest.size()) break;
    if ((header.nla_type & NLA_TYPE_MASK) == type)
      return rest.subspan(sizeof header, header.nla_len - sizeof header);
    rest = rest.subspan(std::min(aligned(header.nla_len), rest.size()));
  }
  return {};
}

Result<bool> dump_once(std::span<const std::byte> request, const DiagVisitor& visit) {
  UPD_ASSIGN(const UniqueFd fd, send_question(request, NLM_F_DUMP));
  std::vector<std::byte> buffer(kReceiveBuffer);
  bool complete = true;
  for (std::size_t i = 0; i < kMaxDiagAnswers; ++i) {  // at least one answer a datagram
    UPD_ASSIGN(const std::size_t size, receive(fd.get(), buffer));
    if (size == 0) return false;
    UPD_ASSIGN(const Read read, read_messages(std::span(buffer).first(size), visit));
    if (read == Read::again) complete = false;
    if (read == Read::absent)
      return Error(base::Code::io_error, "this kernel has no sock_diag for such sockets")
          .hint("load the modules tcp_diag, udp_diag and unix_diag");
    if (read == Read::end) return complete;
    if (!complete) return false;
  }
  return false;
}

Result<bool> ask_exactly(std::span<const std::byte> request, const DiagVisitor& visit) {
  UPD_ASSIGN(const UniqueFd fd, send_question(request, NLM_F_ACK));
  std::vector<std::byte> buffer(kReceiveBuffer);
  UPD_ASSIGN(const std::size_t size, receive(fd.get(), buffer));
  if (size == 0) return dump_incomplete();
  UPD_ASSIGN(const Read read, read_messages(std::span(buffer).first(size), visit));
  return read != Read::absent;
}

Error dump_incomplete() {
  return {base::Code::io_error, "sock_diag did not come to an end of its list"};
}

Error too_many_answers() {
  return Error(base::Code::io_error, "more sockets than are looked at")
      .expected("at most " + std::to_string(kMaxDiagAnswers));
}

}  // namespace updagent::listen
