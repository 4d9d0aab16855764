#include "agent/service/state_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"

namespace updagent::service {
namespace {

constexpr std::size_t kMaxStateBytes = 128UL * 1024 * 1024;  // 16 services of 4 MiB, escaped

}  // namespace

base::Status replace_file(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".new";
  const base::UniqueFd file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return base::system_error(errno, "cannot write '" + temporary + "'");
  UPD_TRY(base::write_all(file.get(), content, temporary));
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return base::system_error(errno, "cannot replace '" + path + "'");
  return base::ok();
}

base::Result<base::Json> read_state(const std::string& path) {
  if (!base::exists(path)) return base::Json();
  UPD_ASSIGN(const std::string text, base::read_file(path, kMaxStateBytes));
  // our own file of this boot: floats and depth are no question here
  base::Json state = base::Json::parse(text, nullptr, false);
  if (!state.is_object())
    return base::Error(base::Code::damaged, "'" + path + "' can't be understood");
  if (state.value("boot_id", std::string()) != base::boot_id()) return base::Json();
  return state;
}

}  // namespace updagent::service
