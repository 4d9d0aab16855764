#include "agent/release/source_info.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "agent/base/unique_fd.hpp"
#include "agent/release/tarball_commit.hpp"
#include "tests/support/tar_builder.hpp"
#include "tests/unit/release_pack/support.hpp"

namespace updagent::release::test {
namespace {

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";

Environment variables(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) {
    const auto at = values.find(name);
    return at == values.end() ? std::string() : at->second;
  };
}

TEST(SourceInfo, Github_actions_says_commit_repository_and_run) {
  const SourceInfo source = source_from_ci(variables(
      {{"GITHUB_SHA", kCommit}, {"GITHUB_REPOSITORY", "acme/shop"}, {"GITHUB_RUN_ID", "42"}}));
  EXPECT_EQ(source.revision, kCommit);
  EXPECT_EQ(source.repository, "https://github.com/acme/shop");
  EXPECT_EQ(source.builder, "github-actions run 42");
}

TEST(SourceInfo, An_enterprise_server_of_github_keeps_its_name) {
  const SourceInfo source =
      source_from_ci(variables({{"GITHUB_SHA", kCommit},
                                {"GITHUB_SERVER_URL", "https://git.example.org"},
                                {"GITHUB_REPOSITORY", "acme/shop"}}));
  EXPECT_EQ(source.repository, "https://git.example.org/acme/shop");
  EXPECT_EQ(source.builder, "github-actions run");
}

TEST(SourceInfo, Gitlab_buildkite_and_jenkins_are_known) {
  const SourceInfo gitlab =
      source_from_ci(variables({{"CI_COMMIT_SHA", kCommit},
                                {"CI_PROJECT_URL", "https://gitlab.example/acme/shop"},
                                {"CI_JOB_ID", "7"}}));
  EXPECT_EQ(gitlab.repository, "https://gitlab.example/acme/shop");
  EXPECT_EQ(gitlab.builder, "gitlab-ci job 7");
  const SourceInfo buildkite =
      source_from_ci(variables({{"BUILDKITE_COMMIT", "HEAD"}, {"BUILDKITE_BUILD_NUMBER", "9"}}));
  EXPECT_EQ(buildkite.revision, "") << "HEAD is no commit";
  EXPECT_EQ(buildkite.builder, "buildkite build 9");
  const SourceInfo jenkins = source_from_ci(
      variables({{"GIT_COMMIT", kCommit}, {"BUILD_URL", "https://u:secret@ci.example/job/3/"}}));
  EXPECT_EQ(jenkins.builder, "jenkins https://ci.example/job/3/");
  EXPECT_EQ(source_from_ci(variables({})).builder, "");
}

TEST(SourceInfo, A_url_loses_everything_that_is_secret_or_local) {
  EXPECT_EQ(public_url("https://user:token@example.org/a/b.git"), "https://example.org/a/b.git");
  EXPECT_EQ(public_url("https://token@example.org/a"), "https://example.org/a");
  EXPECT_EQ(public_url("https://a:b@c@example.org/a@b"), "https://example.org/a@b");
  EXPECT_EQ(public_url("https://example.org/a?private_token=x#y"), "https://example.org/a");
  EXPECT_EQ(public_url("ssh://git@example.org:22/a"), "ssh://example.org:22/a");
  EXPECT_EQ(public_url("git@github.com:acme/shop.git"), "git@github.com:acme/shop.git");
  for (const char* useless :
       {"/srv/git/shop", "../shop", "file:///srv/git/shop", "~/shop", "shop", "ext::sh -c x",
        "ext::sh", "user:token@host", "https://x y/", "https://x/\x01", "https://x/\xff", ""})
    EXPECT_EQ(public_url(useless), "") << useless;
}

TEST(SourceInfo, SOURCE_DATE_EPOCH_is_a_number_of_seconds_or_refused) {
  const auto none = source_date_epoch(variables({}));
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
  const auto some = source_date_epoch(variables({{"SOURCE_DATE_EPOCH", "1718730000"}}));
  ASSERT_TRUE(some && *some);
  EXPECT_EQ(**some, kThen);
  for (const char* wrong : {"yesterday", "-1", "8589934592", "1.5"}) {
    const auto refused = source_date_epoch(variables({{"SOURCE_DATE_EPOCH", wrong}}));
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code(), base::Code::usage);
    EXPECT_EQ(refused.error().got(), "'" + std::string(wrong) + "'");
  }
}

TEST(SourceInfo, A_commit_is_40_or_64_hex_digits_and_nothing_else) {
  EXPECT_EQ(as_commit(kCommit), kCommit);
  EXPECT_EQ(as_commit("0123456789ABCDEF0123456789abcdef01234567"), kCommit);
  EXPECT_EQ(as_commit(std::string(64, 'a')), std::string(64, 'a'));
  EXPECT_EQ(as_commit(std::string(39, 'a')), "");
  EXPECT_EQ(as_commit(std::string(40, 'g')), "");
  EXPECT_EQ(as_commit(""), "");
}

class TarballCommit : public ::testing::Test {
 protected:
  std::string commit_of(const std::string& bytes) const {
    scratch_.file("t", bytes);
    const base::UniqueFd fd(::open(scratch_.path("t").c_str(), O_RDONLY | O_CLOEXEC));
    return commit_of_tarball(fd.get());
  }
  Scratch scratch_;
};

TEST_F(TarballCommit, Is_the_comment_of_a_global_header_in_any_compression) {
  using namespace updagent::testing;
  const std::string tar = pax_header(pax_record("comment", kCommit), 'g') +
                          tar_entry(file_fields("a", 1), "x") + end_of_archive();
  EXPECT_EQ(commit_of(tar), kCommit);
  EXPECT_EQ(commit_of(gzip_member(tar)), kCommit);
  EXPECT_EQ(commit_of(zstd_frame(tar)), kCommit);
}

TEST_F(TarballCommit, Is_nothing_when_the_header_says_something_else_or_is_broken) {
  using namespace updagent::testing;
  const std::string rest = tar_entry(file_fields("a", 1), "x") + end_of_archive();
  EXPECT_EQ(commit_of(pax_header(pax_record("comment", "made by hand"), 'g') + rest), "");
  EXPECT_EQ(commit_of(pax_header(pax_record("comment", kCommit), 'x') + rest), "");
  EXPECT_EQ(commit_of(pax_header("99 comment=" + kCommit, 'g') + rest), "");
  EXPECT_EQ(commit_of(pax_header("3 comment=" + kCommit, 'g') + rest), "");
  EXPECT_EQ(commit_of(pax_header("99999999999999999999 comment=x\n", 'g') + rest), "");
  EXPECT_EQ(commit_of(pax_header("no records", 'g') + rest), "");
  EXPECT_EQ(commit_of(rest), "");
  EXPECT_EQ(commit_of("short"), "");
  EXPECT_EQ(commit_of(""), "");
}

TEST(SourceInfo, A_directory_outside_of_git_says_nothing) {
  const Scratch scratch;
  EXPECT_FALSE(source_from_git(scratch.path(), variables({{"HOME", scratch.path()}})));
}

TEST(SourceInfo, A_work_tree_says_commit_time_remote_and_whether_it_is_dirty) {
  const Scratch scratch;
  scratch.file("repo/sub/a", "a");
  const std::string git = "cd " + scratch.path("repo") + " && HOME=" + scratch.path() +
                          " GIT_COMMITTER_DATE='@1718730000 +0000' "
                          "git -c user.name=t -c user.email=t@example.org ";
  ASSERT_EQ(shell(git + "init -q"), 0);
  ASSERT_EQ(shell(git + "add ."), 0);
  ASSERT_EQ(shell(git + "commit -q -m first"), 0);
  ASSERT_EQ(shell(git + "remote add origin https://me:secret@example.org/acme/shop.git"), 0);
  const Environment environment = variables({{"HOME", scratch.path()}});
  const auto info = source_from_git(scratch.path("repo/sub"), environment);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->source.revision.size(), 40U);
  EXPECT_EQ(info->source.repository, "https://example.org/acme/shop.git");
  EXPECT_EQ(info->committed_at, kThen);
  EXPECT_FALSE(info->is_dirty);
  scratch.file("repo/sub/a", "changed");
  const auto dirty = source_from_git(scratch.path("repo"), environment);
  ASSERT_TRUE(dirty);
  EXPECT_TRUE(dirty->is_dirty);
  EXPECT_EQ(dirty->source.revision, info->source.revision);
}

}  // namespace
}  // namespace updagent::release::test
