#include "agent/service/state_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "agent/base/files.hpp"

namespace updagent::service {

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

}  // namespace updagent::service
