#include <fcntl.h>

#include <algorithm>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/journal/head.hpp"
#include "agent/journal/journal.hpp"
#include "agent/journal/paths.hpp"

namespace updagent::journal {
namespace {

using base::Result;
using base::Status;

// "20260817T093000.000123Z": no colons, which some tools take for a host name.
std::string file_timestamp() {
  std::string text = base::format_rfc3339(base::wall_now_us());
  std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
  return text;
}

Status move_if_there(const std::string& from, const std::string& to) {
  if (!base::exists(from)) return base::ok();
  UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(directory_of(from)));
  return base::rename_durably(directory.get(), name_of(from), directory.get(), name_of(to), true);
}

}  // namespace

Result<SetAside> set_damaged_aside(const Paths& paths) {
  const std::string suffix = ".damaged-" + file_timestamp();
  const std::string target = paths.database + suffix;
  SetAside aside;
  if (base::exists(paths.database)) aside.path = target;
  if (auto head = read_head(paths.head)) aside.head = *head;
  // -wal before the database: a new database beside an old -wal would take its pages in
  UPD_TRY(move_if_there(paths.database + "-wal", target + "-wal"));
  UPD_TRY(move_if_there(paths.database + "-shm", target + "-shm"));
  // the head belongs to the old chain; beside the new one it would say "cut off"
  UPD_TRY(move_if_there(paths.head, paths.head + suffix));
  UPD_TRY(move_if_there(paths.database, target));
  return aside;
}

}  // namespace updagent::journal
