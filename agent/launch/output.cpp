#include "agent/launch/output.hpp"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

constexpr mode_t kOutputMode = 0640;
constexpr mode_t kFolderMode = 0755;
constexpr int kInfo = 6;  // syslog(3): of lines that don't begin with "<N>"
// As systemd sets it: a burst is taken by the socket while journald is busy.
constexpr int kSocketBuffer = 8 * 1024 * 1024;

// One line: a name with a line end would speak the next fields of the header.
std::string one_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// The stream protocol of systemd-journald, as sd_journal_stream_fd(3) speaks it: identifier, unit,
// priority, "<N>" prefixes are read, not forwarded to syslog, kmsg or console.
std::string stream_header(const OutputRequest& request) {
  return one_line(request.identifier) + "\n" + one_line(request.unit) + "\n" +
         std::to_string(kInfo) + "\n1\n0\n0\n0\n";
}

base::Result<base::UniqueFd> connect_journal(const OutputRequest& request) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (request.journal_socket.size() >= sizeof address.sun_path)
    return base::system_error(ENAMETOOLONG, "cannot connect to '" + request.journal_socket + "'");
  std::copy(request.journal_socket.begin(), request.journal_socket.end(), address.sun_path);
  base::UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!stream) return base::system_error(errno, "cannot make a socket");
  if (::connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::system_error(errno, "cannot connect to '" + request.journal_socket + "'");
  const std::string header = stream_header(request);
  const ssize_t sent = ::send(stream.get(), header.data(), header.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(header.size()))
    return base::system_error(sent < 0 ? errno : EAGAIN, "cannot write to journald");
  // The flags are the service's from here on, and it expects a stdout that waits. Both are a
  // convenience: without them it works too.
  ::shutdown(stream.get(), SHUT_RD);
  static_cast<void>(
      !::setsockopt(stream.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer));
  if (::fcntl(stream.get(), F_SETFL, 0) != 0)
    return base::system_error(errno, "cannot clear O_NONBLOCK");
  return stream;
}

// systemd.exec(5): lets a service see that its stdout is the journal's, and use the native
// protocol.
std::string stream_name(int fd) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return "";
  return std::to_string(about.st_dev) + ":" + std::to_string(about.st_ino);
}

base::Result<base::UniqueFd> open_output_file(const std::string& path,
                                              const base::Identity& owner) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos)
    return base::Error(base::Code::internal, "the output's path '" + path + "' is not absolute");
  UPD_TRY(base::make_directories(path.substr(0, slash), kFolderMode));
  UPD_ASSIGN(base::UniqueFd file,
             base::open_path(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, kOutputMode));
  if (::geteuid() == 0 && ::fchown(file.get(), owner.uid, owner.gid) != 0)
    return base::system_error(errno, "cannot give '" + path + "' to the service's user");
  return file;
}

}  // namespace

base::Result<ServiceOutput> open_output(const OutputRequest& request) {
  ServiceOutput output;
  if (!request.journal_socket.empty()) {
    auto stream = connect_journal(request);
    if (stream) {
      output.fd = std::move(*stream);
      output.in_journal = true;
      output.journal_stream = stream_name(output.fd.get());
      return output;
    }
    output.why_file = "there is no journald: " + stream.error().line();
  } else {
    output.why_file = "the journal is not wanted";
  }
  UPD_ASSIGN(output.fd, open_output_file(request.file, request.owner));
  return output;
}

base::Result<std::string> tail_of_output(const std::string& path, std::size_t bytes) {
  // O_NONBLOCK: the folder is ours, but should it be a fifo all the same, nobody waits
  UPD_ASSIGN(const base::UniqueFd file, base::open_path(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat about{};
  if (::fstat(file.get(), &about) != 0)
    return base::system_error(errno, "cannot look at '" + path + "'");
  const auto size = static_cast<std::uint64_t>(about.st_size);
  const std::uint64_t wanted = std::min<std::uint64_t>({bytes, kMaxTailBytes, size});
  std::string text(wanted, '\0');
  const ssize_t count =
      ::pread(file.get(), text.data(), text.size(), static_cast<off_t>(size - wanted));
  if (count < 0) return base::system_error(errno, "cannot read '" + path + "'");
  text.resize(static_cast<std::size_t>(count));
  // what was punched out of the file reads as zeros
  const bool cut = wanted < size || text.starts_with('\0');
  text.erase(std::remove(text.begin(), text.end(), '\0'), text.end());
  const std::size_t line_end = text.find('\n');
  if (cut && line_end != std::string::npos) text.erase(0, line_end + 1);
  return base::printable(base::to_valid_utf8(text), true);
}

}  // namespace updagent::launch
