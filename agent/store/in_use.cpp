#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "agent/base/text.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Result;

constexpr std::size_t kMaxProcFiles = 4'194'304 + 1024;  // PID_MAX_LIMIT and /proc's other names
constexpr std::size_t kMaxDescriptors = 65'536;          // looked at in one process
constexpr std::size_t kMaxMappings = 1'048'576;          // of one; vm.max_map_count is 65,530

// A deleted file's link ends in " (deleted)", a moved directory's link moves with it: a prefix
// tells.
bool is_below(std::string_view name, std::string_view path) {
  return name.starts_with(path) && (name.size() == path.size() || name[path.size()] == '/' ||
                                    name.substr(path.size()).starts_with(" (deleted)"));
}

bool link_is_below(const std::string& link, const std::string& path) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length > 0 && is_below({target.data(), static_cast<std::size_t>(length)}, path);
}

bool descriptors_are_below(const std::string& process, const std::string& path) {
  const std::string folder = process + "/fd";
  const DirectoryListing listing(::opendir(folder.c_str()));
  if (!listing) return false;  // gone, or not ours to look at
  for (std::size_t i = 0; i < kMaxDescriptors; ++i) {
    const dirent* entry = ::readdir(listing.get());
    if (entry == nullptr) return false;
    if (link_is_below(folder + "/" + entry->d_name, path)) return true;
  }
  return false;
}

// proc(5): the path is the rest of the line after five fields, always absolute for a file.
bool mappings_are_below(const std::string& process, const std::string& path) {
  std::ifstream maps(process + "/maps");
  std::string line;
  for (std::size_t i = 0; i < kMaxMappings && std::getline(maps, line); ++i) {
    const std::size_t slash = line.find('/');
    if (slash != std::string::npos && is_below(std::string_view(line).substr(slash), path))
      return true;
  }
  return false;
}

bool process_is_below(const std::string& process, const std::string& path) {
  return link_is_below(process + "/cwd", path) || link_is_below(process + "/root", path) ||
         link_is_below(process + "/exe", path) || descriptors_are_below(process, path) ||
         mappings_are_below(process, path);
}

}  // namespace

Result<bool> in_use(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (!real) return base::system_error(errno, cannot("find", path));
  const std::string wanted = real.get();
  const DirectoryListing processes(::opendir("/proc"));
  if (!processes) return base::system_error(errno, cannot("list", "/proc"));
  const std::string own = std::to_string(::getpid());
  for (std::size_t i = 0; i < kMaxProcFiles; ++i) {
    const dirent* entry = ::readdir(processes.get());
    if (entry == nullptr) break;
    // what we hold open ourselves, we are about to let go
    if (!base::parse_u64(entry->d_name) || own == entry->d_name) continue;
    if (process_is_below(std::string("/proc/") + entry->d_name, wanted)) return true;
  }
  return false;
}

}  // namespace updagent::store
