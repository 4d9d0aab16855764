// Files that decide what may run on this node, or that hold a secret: nobody but root and ourselves
// may be able to change them, or to read them. What is checked is what was opened (fstat), so a
// link to root's own file elsewhere is fine and a swap between check and use is not possible.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::base {

inline constexpr mode_t kOthersMayWrite = 022;
inline constexpr mode_t kOthersMayReadOrWrite = 077;

struct Guard {
  Code code = Code::config_invalid;    // of every refusal, an unreadable file included
  mode_t forbidden = kOthersMayWrite;  // these mode bits must be clear
  bool any_owner = false;              // otherwise root or ourselves
};

// The whole file, which must be a regular one; nothing when there is none of that name.
Result<std::optional<std::string>> read_guarded_file(const std::string& path, const Guard& guard,
                                                     std::size_t max_bytes);
// The folder's own owner and mode; false when there is no such folder. Write bits of others are
// fine with `sticky_is_enough` and a sticky bit: then they can't replace what is not theirs.
Result<bool> check_guarded_directory(const std::string& path, const Guard& guard,
                                     bool sticky_is_enough = false);

// 'it'\''s' : one word for a shell, for hints that people paste. Plain words stay as they are.
std::string shell_quoted(std::string_view word);

}  // namespace updagent::base
