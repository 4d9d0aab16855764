// Writing to the spool: no lock, no database, one file for each call, complete or not there.
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/journal/journal.hpp"
#include "agent/journal/reserve.hpp"
#include "agent/journal/spool_format.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

// In the order of time when sorted by name, and never that of another call.
std::string new_file_name(std::int64_t now_us) {
  const std::string random = base::random_bytes(4);
  const std::string suffix =
      base::to_hex(std::span(reinterpret_cast<const std::uint8_t*>(random.data()), random.size()));
  std::array<char, 96> name{};
  std::snprintf(name.data(), name.size(), "%020lld-%d-%s", static_cast<long long>(now_us),
                static_cast<int>(::getpid()), suffix.c_str());
  return std::string(name.data()) + std::string(kSpoolSuffix);
}

Result<std::uint64_t> waiting_bytes(const std::string& directory) {
  if (!base::exists(directory)) return std::uint64_t{0};
  UPD_ASSIGN(const auto names, base::list_directory(directory, kMaxSpoolFiles));
  const std::string prefix = directory + "/";
  std::uint64_t total = 0;
  for (const std::string& name : names) {
    struct stat about{};
    if (::lstat((prefix + name).c_str(), &about) == 0)
      total += static_cast<std::uint64_t>(about.st_size);
  }
  return total;
}

Status must_fit(const std::string& directory, std::uint64_t more) {
  UPD_ASSIGN(const std::uint64_t waiting, waiting_bytes(directory));
  if (waiting + more <= kMaxSpoolBytes) return base::ok();
  return Error(Code::no_space, "the spool '" + directory + "' is full")
      .expected("at most " + base::human_bytes(kMaxSpoolBytes) + " of events that wait")
      .got(base::human_bytes(waiting + more))
      .hint("the next command that can open the journal imports it");
}

Status write_spool_file(const std::string& directory, std::int64_t now_us,
                        const std::string& lines) {
  UPD_TRY(base::make_directories(directory, 0700));
  return base::write_file_durably(directory + "/" + new_file_name(now_us), lines, 0600);
}

}  // namespace

Status spool(const Paths& paths, const std::string& node_name, std::span<const EventDraft> events,
             const DeploymentRow* deployment, const ReleaseRow* release, const AppRow* app) {
  const std::int64_t now_us = base::wall_now_us();
  const std::string lines = spool_lines({node_name, now_us}, events, {deployment, release, app});
  UPD_TRY(must_fit(paths.spool, lines.size()));
  Status written = write_spool_file(paths.spool, now_us, lines);
  if (written || written.error().code() != Code::no_space) return written;
  if (!give_up_reserve(paths.reserve)) return written;
  return write_spool_file(paths.spool, now_us, lines);
}

}  // namespace updagent::journal
