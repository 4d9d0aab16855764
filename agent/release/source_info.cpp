#include "agent/release/source_info.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

#include "agent/base/child_process.hpp"
#include "agent/base/text.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/tarball_commit.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;

constexpr base::Milliseconds kGitTimeLimit{20'000};  // `status` of a very large tree on a cold disk

bool is_plain(std::string_view text) {
  return base::is_valid_utf8(text) && text.size() <= kMaxStringBytes &&
         std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7F; });
}

// "NAME run", without the second part when it is nothing to print. Jenkins has a URL for it.
std::string builder_name(const std::string& name, std::string run) {
  if (run.find("://") != std::string::npos) run = public_url(run);
  return run.empty() || !is_plain(run) ? name : name + " " + run;
}

struct CiSystem {
  const char* revision;  // the variable that tells the system apart
  const char* builder;
  const char* run;  // variable with the run's number or URL
  const char* repository;
};
constexpr std::array<CiSystem, 4> kCiSystems = {{
    {"GITHUB_SHA", "github-actions run", "GITHUB_RUN_ID", "GITHUB_REPOSITORY"},
    {"CI_COMMIT_SHA", "gitlab-ci job", "CI_JOB_ID", "CI_PROJECT_URL"},
    {"BUILDKITE_COMMIT", "buildkite build", "BUILDKITE_BUILD_NUMBER", "BUILDKITE_REPO"},
    {"GIT_COMMIT", "jenkins", "BUILD_URL", "GIT_URL"},
}};

// GitHub says OWNER/NAME and the server apart from it.
std::string github_url(const std::string& repository, const Environment& environment) {
  const std::string server = environment("GITHUB_SERVER_URL");
  return (server.empty() ? "https://github.com" : server) + "/" + repository;
}

// What git may see of our environment: where the user's configuration is (safe.directory) and where
// to stop looking. Not GIT_DIR: a hook that packs would otherwise describe its own repository.
std::vector<std::string> git_environment(const Environment& environment) {
  std::vector<std::string> list = {"LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0",
                                   "GIT_NO_LAZY_FETCH=1", "PATH=" + std::string(base::kSafePath)};
  for (const char* name :
       {"HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CEILING_DIRECTORIES"})
    if (const std::string value = environment(name); !value.empty())
      list.push_back(std::string(name) + "=" + value);
  return list;
}

std::optional<std::string> run_git(const std::string& directory, std::vector<std::string> arguments,
                                   const Environment& environment) {
  base::ChildSpec spec;
  // options first that keep a repository's configuration from starting programs
  spec.argv = {"git", "-c",     "core.fsmonitor=false", "-c", "log.showSignature=false",
               "-C",  directory};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = git_environment(environment);
  spec.time_limit = kGitTimeLimit;
  const auto result = base::run_child(spec, nullptr);
  if (!result || !result->success()) return std::nullopt;
  return result->output;
}

// stdout and stderr come together: the answer is the last line, warnings stand before it.
std::string_view last_line(std::string_view output) {
  while (output.ends_with('\n')) output.remove_suffix(1);
  const std::size_t line = output.rfind('\n');
  return line == std::string_view::npos ? output : output.substr(line + 1);
}

bool is_local(std::string_view url) {
  return url.starts_with('/') || url.starts_with('.') || url.starts_with('~') ||
         url.starts_with("file:");
}

// Lines of `git status --porcelain`: two letters and a space. Warnings look different.
bool has_changes(std::string_view status) {
  constexpr std::string_view kLetters = " MTADRCU";
  while (!status.empty()) {
    const std::string_view line = status.substr(0, status.find('\n'));
    if (line.size() > 3 && line[2] == ' ' && kLetters.find(line[0]) != std::string_view::npos &&
        kLetters.find(line[1]) != std::string_view::npos)
      return true;
    status.remove_prefix(std::min(status.size(), line.size() + 1));
  }
  return false;
}

}  // namespace

std::string process_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

base::Result<std::optional<std::int64_t>> source_date_epoch(const Environment& environment) {
  const std::string text = environment("SOURCE_DATE_EPOCH");
  if (text.empty()) return std::optional<std::int64_t>();
  const auto seconds = base::parse_u64(text);
  if (!seconds || *seconds > static_cast<std::uint64_t>(kMaxTime))
    return Error(Code::usage, "SOURCE_DATE_EPOCH is not a time")
        .expected("seconds since 1970, at most " + std::to_string(kMaxTime))
        .got("'" + text + "'");
  return std::optional<std::int64_t>(static_cast<std::int64_t>(*seconds));
}

SourceInfo source_from_ci(const Environment& environment) {
  for (const CiSystem& ci : kCiSystems) {
    const std::string revision = environment(ci.revision);
    if (revision.empty()) continue;
    std::string repository = environment(ci.repository);
    if (ci.repository == std::string_view("GITHUB_REPOSITORY") && !repository.empty())
      repository = github_url(repository, environment);
    // as_commit: Buildkite says the word HEAD when a build was started by hand
    return {as_commit(revision), public_url(repository),
            builder_name(ci.builder, environment(ci.run))};
  }
  return {};
}

std::optional<GitInfo> source_from_git(const std::string& directory,
                                       const Environment& environment) {
  const auto head = run_git(directory, {"log", "-1", "--format=%H %ct", "HEAD"}, environment);
  if (!head) return std::nullopt;
  const std::string_view line = last_line(*head);
  const std::size_t space = line.find(' ');
  GitInfo info;
  info.source.revision = as_commit(line.substr(0, space));
  if (info.source.revision.empty() || space == std::string_view::npos) return std::nullopt;
  const auto seconds = base::parse_u64(line.substr(space + 1));
  if (!seconds || *seconds > static_cast<std::uint64_t>(kMaxTime)) return std::nullopt;
  info.committed_at = static_cast<std::int64_t>(*seconds);
  if (const auto url = run_git(directory, {"config", "--get", "remote.origin.url"}, environment))
    info.source.repository = public_url(last_line(*url));
  const auto status = run_git(
      directory,
      {"status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", "."},
      environment);
  info.is_dirty = status && has_changes(*status);
  return info;
}

std::string public_url(std::string_view url) {
  // "transport::address" starts a helper program of the author's machine
  if (!is_plain(url) || is_local(url) || url.find("::") != std::string_view::npos) return "";
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) {  // git@host:path
    const std::size_t colon = url.find(':');
    const bool has_password = url.find('@', std::min(colon, url.size())) != std::string_view::npos;
    return colon == std::string_view::npos || has_password ? "" : std::string(url);
  }
  const std::size_t host = scheme + 3;
  std::string_view rest = url.substr(host);
  rest = rest.substr(0, rest.find_first_of("?#"));
  const std::size_t path = std::min(rest.find('/'), rest.size());
  if (const std::size_t at = rest.substr(0, path).rfind('@'); at != std::string_view::npos)
    rest.remove_prefix(at + 1);
  return std::string(url.substr(0, host)) + std::string(rest);
}

}  // namespace updagent::release
