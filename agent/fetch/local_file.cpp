#include "agent/fetch/local_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::fetch {
namespace {

base::Result<std::uint64_t> size_of_regular_file(int fd, const std::string& path) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return base::system_error(errno, "cannot stat '" + path + "'");
  if (!S_ISREG(about.st_mode))
    return base::Error(base::Code::fetch_failed, "'" + path + "' can't be fetched")
        .expected("a regular file")
        .got(S_ISDIR(about.st_mode) ? "a directory" : "a device, pipe or socket");
  return static_cast<std::uint64_t>(about.st_size);
}

base::Result<std::string> first_bytes(int fd, std::size_t bytes, const std::string& path) {
  std::string head(bytes, '\0');
  std::size_t have = 0;
  while (have < head.size()) {
    const ssize_t count =
        ::pread(fd, head.data() + have, head.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::system_error(errno, "cannot read '" + path + "'");
    if (count == 0) break;
    have += static_cast<std::size_t>(count);
  }
  head.resize(have);
  return head;
}

}  // namespace

base::Result<Fetched> open_local_file(const Request& request, const Url& url) {
  // O_NONBLOCK: a fifo of that name must not hang us before it is refused
  auto opened = base::open_path(url.path, O_RDONLY | O_NONBLOCK);
  if (!opened) return base::Error(base::Code::fetch_failed, opened.error().message());
  UPD_ASSIGN(const std::uint64_t bytes, size_of_regular_file(opened->get(), url.path));
  if (bytes > request.limits.max_bytes)
    return base::Error(base::Code::too_large, "'" + url.path + "' is larger than this node allows")
        .expected("at most " + base::human_bytes(request.limits.max_bytes))
        .got(base::human_bytes(bytes));
  Fetched fetched;
  fetched.bytes = bytes;
  if (request.on_head) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes, request.head_bytes));
    UPD_ASSIGN(const std::string head, first_bytes(opened->get(), wanted, url.path));
    UPD_ASSIGN(const bool goes_on, request.on_head(head));
    fetched.stopped_early = !goes_on;
  }
  if (!fetched.stopped_early) fetched.file = std::move(*opened);
  return fetched;
}

}  // namespace updagent::fetch
