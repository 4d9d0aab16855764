// Where the stdout and stderr of a service go: into the journal where journald listens, else into a
// file of its generation. Neither needs us: the service holds the descriptor itself, and goes on
// writing when the supervisor dies. (What bounds the file while we live: output_bound.hpp.)
#pragma once

#include <cstddef>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

inline constexpr const char* kJournalSocket = "/run/systemd/journal/stdout";
// What one look at the end of a file may ask for: many screens, and little memory.
inline constexpr std::size_t kMaxTailBytes = 1024 * 1024;

struct OutputRequest {
  std::string journal_socket = kJournalSocket;  // "": only the file is wanted
  std::string identifier;                       // SYSLOG_IDENTIFIER: "shop"
  std::string unit;  // "updagent@shop.service"; journald believes it when we are root; may be ""
  std::string file;  // made (0640) when there is no journal, its folder too
  base::Identity owner;  // of the file: programs open /dev/stderr anew
};

struct ServiceOutput {
  base::UniqueFd fd;  // for ServiceSpec::stdout_fd and stderr_fd
  bool in_journal = false;
  std::string journal_stream;  // for ServiceSituation, "" with a file
  std::string why_file;        // "there is no journald (...)", "" with the journal
};

// Never waits: a journald that doesn't take connections is none.
base::Result<ServiceOutput> open_output(const OutputRequest& request);

// The last `bytes` (at most kMaxTailBytes) of the file, from the first whole line on; valid UTF-8,
// control bytes but line ends and tabs escaped: a service must not drive the operator's terminal.
base::Result<std::string> tail_of_output(const std::string& file, std::size_t bytes);

}  // namespace updagent::launch
