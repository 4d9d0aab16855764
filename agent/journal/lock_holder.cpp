#include "agent/journal/lock_holder.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <sstream>
#include <vector>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::journal {
namespace {

constexpr std::size_t kMaxLocksBytes = 4 * 1024 * 1024;  // /proc/locks of a very busy machine
constexpr std::size_t kMaxCommBytes = 64;                // the kernel keeps 16

// SQLite's lock bytes: the write lock of a WAL is the first one in -shm (120), those of the
// database file start at PENDING_BYTE. https://www.sqlite.org/walformat.html#locks
constexpr std::uint64_t kWalWriteLockByte = 120;
constexpr std::uint64_t kPendingByte = 0x40000000;

struct LockLine {
  std::uint64_t pid = 0;
  std::uint64_t inode = 0;
  std::uint64_t start = 0;
};

// "1: POSIX  ADVISORY  WRITE 4711 fe:00:131 120 120"; a waiter has "->" after the number.
std::optional<LockLine> parse_write_lock(const std::string& line) {
  std::istringstream words(line);
  std::string number, type, mode, access, pid, file, start;
  words >> number >> type >> mode >> access >> pid >> file >> start;
  if (type == "->" || access != "WRITE") return std::nullopt;
  const auto holder = base::parse_u64(pid);
  const auto inode = base::parse_u64(file.substr(file.find_last_of(':') + 1));
  const auto first = base::parse_u64(start);
  if (!holder || !inode || !first) return std::nullopt;
  return LockLine{*holder, *inode, *first};
}

std::uint64_t inode_of(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 ? about.st_ino : 0;
}

std::string described(std::uint64_t pid) {
  std::string text = "process " + std::to_string(pid);
  auto comm = base::read_file("/proc/" + std::to_string(pid) + "/comm", kMaxCommBytes);
  if (!comm) return text;
  while (!comm->empty() && comm->back() == '\n') comm->pop_back();
  return text + " (" + base::printable(*comm) + ")";
}

}  // namespace

std::string lock_holder(const std::string& database_path) {
  const std::uint64_t database_inode = inode_of(database_path);
  const std::uint64_t shm_inode = inode_of(database_path + "-shm");
  const auto locks = base::read_file("/proc/locks", kMaxLocksBytes);
  if (!locks) return "another process";
  std::istringstream lines(*locks);
  for (std::string line; std::getline(lines, line);) {
    const auto lock = parse_write_lock(line);
    if (!lock || lock->pid == static_cast<std::uint64_t>(::getpid())) continue;
    const bool wal = lock->inode == shm_inode && lock->start == kWalWriteLockByte;
    const bool file = lock->inode == database_inode && lock->start >= kPendingByte;
    if (wal || file) return described(lock->pid);
  }
  return "another process";
}

}  // namespace updagent::journal
