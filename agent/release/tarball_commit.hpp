// The commit that a tarball says it was made of: `git archive`, and so GitHub and GitLab, put it as
// the comment of a pax global header in front, which libarchive skips.
#pragma once

#include <string>

namespace updagent::release {

// 40 (SHA-1) or 64 (SHA-256) lower-case hex digits; "" when there is none, or nothing readable.
// Moves the descriptor's position.
std::string commit_of_tarball(int fd);

// Lower-case of `text` if it is such a commit id, "" otherwise.
std::string as_commit(std::string_view text);

}  // namespace updagent::release
