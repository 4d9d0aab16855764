// Where a release comes from: what git and the variables of CI systems say. All of it is a claim of
// whoever packs; nothing here makes pack fail, but for a SOURCE_DATE_EPOCH that is none.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::release {

struct SourceInfo {
  std::string revision;    // a commit id, lower-case hex; "" when unknown
  std::string repository;  // a URL without credentials; "" when unknown
  std::string builder;     // "github-actions run 42"; "" outside of CI
};

struct GitInfo {
  SourceInfo source;
  std::int64_t committed_at = 0;  // seconds since the epoch
  bool is_dirty = false;          // tracked files below the directory differ from the commit
};

// The value of an environment variable, "" when unset.
using Environment = std::function<std::string(const char* name)>;
std::string process_environment(const char* name);

// https://reproducible-builds.org/specs/source-date-epoch/; Code::usage when it is not a number.
base::Result<std::optional<std::int64_t>> source_date_epoch(const Environment& environment);

// GitHub Actions, GitLab CI, Buildkite, Jenkins: the first whose variables are there.
SourceInfo source_from_ci(const Environment& environment);

// Nothing when `directory` is in no work tree, or git is missing or refuses to look at it.
std::optional<GitInfo> source_from_git(const std::string& directory,
                                       const Environment& environment);

// Without user, password, query and fragment; "" for what means nothing to others (local paths).
std::string public_url(std::string_view url);

}  // namespace updagent::release
