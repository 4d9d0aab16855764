#include "agent/listen/proc_sockets.hpp"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;

constexpr std::size_t kMaxDescriptors = 1'048'576;         // fs.nr_open
constexpr std::size_t kMaxProcEntries = 4'194'304 + 1024;  // PID_MAX_LIMIT and other names
constexpr std::size_t kMaxOwners = 8;                      // enough to name; a pool has hundreds
constexpr base::Milliseconds kOwnerSearch{2'000};          // thousands of processes take 50 ms
constexpr std::size_t kMaxCommand = 64;                    // TASK_COMM_LEN is 16

struct CloseListing {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Listing = std::unique_ptr<DIR, CloseListing>;

// "socket:[12345]"
std::optional<std::uint32_t> socket_inode(int directory_fd, const char* name) {
  constexpr std::string_view kPrefix = "socket:[";
  std::array<char, 64> link{};
  const ssize_t length = ::readlinkat(directory_fd, name, link.data(), link.size());
  if (length <= 0) return std::nullopt;
  const std::string_view target(link.data(), static_cast<std::size_t>(length));
  if (!target.starts_with(kPrefix) || !target.ends_with(']')) return std::nullopt;
  const auto inode =
      base::parse_u64(target.substr(kPrefix.size(), target.size() - kPrefix.size() - 1));
  if (!inode) return std::nullopt;
  return static_cast<std::uint32_t>(*inode);
}

using SocketVisitor = std::function<void(int fd, std::uint32_t inode)>;

Status visit_sockets(pid_t pid, const SocketVisitor& visit) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  const Listing listing(::opendir(folder.c_str()));
  if (!listing && errno == ENOENT)
    return Error(base::Code::not_found, "there is no process " + std::to_string(pid));
  if (!listing) return base::system_error(errno, "cannot list '" + folder + "'");
  for (std::size_t i = 0; i < kMaxDescriptors; ++i) {
    const dirent* entry = ::readdir(listing.get());
    if (entry == nullptr) return base::ok();
    const auto number = base::parse_u64(entry->d_name);
    if (!number) continue;
    const auto inode = socket_inode(::dirfd(listing.get()), entry->d_name);
    if (inode) visit(static_cast<int>(*number), *inode);
  }
  return Error(base::Code::io_error, "'" + folder + "' has more entries than are looked at")
      .expected("at most " + std::to_string(kMaxDescriptors));
}

std::string command_of(pid_t pid) {
  const auto text = base::read_file("/proc/" + std::to_string(pid) + "/comm", kMaxCommand);
  if (!text) return "?";
  return base::printable(std::string_view(*text).substr(0, text->find('\n')));
}

}  // namespace

Result<std::vector<ProcessSocket>> sockets_of(pid_t pid) {
  std::vector<ProcessSocket> sockets;
  UPD_TRY(visit_sockets(pid, [&](int fd, std::uint32_t inode) { sockets.push_back({fd, inode}); }));
  return sockets;
}

std::map<std::uint32_t, std::vector<SocketOwner>> owners_of(std::vector<std::uint32_t> inodes) {
  std::map<std::uint32_t, std::vector<SocketOwner>> owners;
  const Listing processes(::opendir("/proc"));
  if (!processes || inodes.empty()) return owners;
  std::sort(inodes.begin(), inodes.end());
  const auto deadline = base::Deadline::in(kOwnerSearch);
  for (std::size_t i = 0; i < kMaxProcEntries && !deadline.passed(); ++i) {
    const dirent* entry = ::readdir(processes.get());
    if (entry == nullptr) break;
    const auto number = base::parse_u64(entry->d_name);
    if (!number) continue;
    const auto pid = static_cast<pid_t>(*number);
    // one that is gone meanwhile, or may not be looked at, is none that we can name
    static_cast<void>(visit_sockets(pid, [&](int, std::uint32_t inode) {
      if (!std::binary_search(inodes.begin(), inodes.end(), inode)) return;
      auto& found = owners[inode];
      if (found.size() < kMaxOwners && (found.empty() || found.back().pid != pid))
        found.push_back({pid, command_of(pid)});
    }));
  }
  return owners;
}

Status InodeSet::add_process(pid_t pid) {
  auto added = visit_sockets(pid, [&](int, std::uint32_t inode) { sorted_.push_back(inode); });
  sort();
  return added;
}

void InodeSet::add(std::uint32_t inode) {
  sorted_.push_back(inode);
  sort();
}

bool InodeSet::has(std::uint32_t inode) const {
  return std::binary_search(sorted_.begin(), sorted_.end(), inode);
}

void InodeSet::sort() {
  std::sort(sorted_.begin(), sorted_.end());
  sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
}

}  // namespace updagent::listen
