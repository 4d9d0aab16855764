// What pack refuses: each with its name, what was expected, what was found, and a way out.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/tar_builder.hpp"
#include "tests/unit/release_pack/support.hpp"

namespace updagent::release::test {
namespace {

using base::Code;
using testing::directory_fields;
using testing::end_of_archive;
using testing::file_fields;
using testing::gzip_member;
using testing::link_fields;
using testing::tar_entry;

class PackRefusal : public PackTest {
 protected:
  PackRefusal() { scratch_.folder("outputs"); }

  PackRequest wanted(const std::string& input = "tree") const {
    return request(scratch_.path(input), scratch_.path("outputs/out.tar.gz"));
  }
  // Refused with this code and something of everything, and no output is left.
  base::Error refused(const PackRequest& bad, Code code) const {
    const auto error = refusal(bad);
    EXPECT_TRUE(scratch_.names("outputs").empty());
    if (!error) return {Code::internal, ""};
    EXPECT_EQ(error->code(), code) << error->line();
    return *error;
  }
  base::Error refused_tree(Code code) const { return refused(wanted(), code); }
  base::Error refused_tar(const std::string& entries, Code code) const {
    scratch_.file("t.tar", entries + end_of_archive());
    return refused(wanted("t.tar"), code);
  }
};

bool says(const base::Error& error, const std::string& text) {
  return (error.line() + " / " + error.hint()).find(text) != std::string::npos;
}

TEST_F(PackRefusal, A_fifo) {
  make_tree();
  ASSERT_EQ(::mkfifo(scratch_.path("tree/lib/pipe").c_str(), 0600), 0);
  const base::Error error = refused_tree(Code::header_unsupported);
  EXPECT_TRUE(says(error, "'lib/pipe' is a fifo")) << error.line();
  EXPECT_EQ(error.expected(), "files, directories and links");
  EXPECT_FALSE(error.hint().empty());
}

TEST_F(PackRefusal, A_device_of_a_tarball) {
  auto device = file_fields("dev/null", 0);
  device.typeflag = '3';
  const base::Error error = refused_tar(tar_entry(device), Code::header_unsupported);
  EXPECT_EQ(error.got(), "a character device");
  EXPECT_TRUE(says(error, "'dev/null'"));
}

TEST_F(PackRefusal, Setuid_and_setgid_files) {
  make_tree();
  ::chmod(scratch_.path("tree/bin/shop").c_str(), 04755);
  base::Error error = refused_tree(Code::mode_unsafe);
  EXPECT_TRUE(says(error, "'bin/shop' is setuid")) << error.line();
  EXPECT_TRUE(says(error, "chmod ug-s"));
  error = refused_tar(tar_entry(file_fields("x", 1, 02755), "x"), Code::mode_unsafe);
  EXPECT_EQ(error.got(), "setgid");
}

TEST_F(PackRefusal, But_the_setgid_bit_of_a_directory_is_only_left_out) {
  make_tree();
  ::chmod(scratch_.path("tree/lib").c_str(), 02755);
  const PackResult result = packed(wanted());
  EXPECT_EQ(result.notes,
            (std::vector<std::string>{"left out the set-id bits of directories: 'lib'"}));
}

TEST_F(PackRefusal, Symlinks_that_leave_the_tree) {
  for (const char* target : {"/etc/passwd", "../../outside", "lib/../../x"}) {
    make_tree();
    scratch_.symlink("tree/bad", target);
    const base::Error error = refused_tree(Code::link_unsafe);
    EXPECT_TRUE(says(error, "'bad'")) << error.line();
    EXPECT_TRUE(says(error, target)) << error.line();
    EXPECT_TRUE(says(error, "make the link relative")) << error.hint();
    std::filesystem::remove_all(scratch_.path("tree"));
  }
}

TEST_F(PackRefusal, A_symlink_that_leaves_the_tree_by_way_of_another) {
  make_tree();
  scratch_.symlink("tree/var/up", "..");
  scratch_.symlink("tree/bad", "var/up/../x");
  const base::Error error = refused_tree(Code::link_unsafe);
  EXPECT_TRUE(says(error, "'bad'")) << error.line();
}

TEST_F(PackRefusal, Names_that_are_not_portable) {
  make_tree();
  scratch_.file("tree/lib/\xff\xfe", "x");
  base::Error error = refused_tree(Code::path_unsafe);
  EXPECT_EQ(error.got(), "bytes that are not UTF-8");
  EXPECT_TRUE(says(error, "rename it"));
  std::filesystem::remove(scratch_.path("tree/lib/\xff\xfe"));
  scratch_.file("tree/lib/a\nb", "x");
  error = refused_tree(Code::path_unsafe);
  EXPECT_EQ(error.got(), "a control byte");
}

TEST_F(PackRefusal, Names_that_differ_by_case_or_normalisation_alone) {
  make_tree();
  scratch_.file("tree/EMPTY", "x");
  base::Error error = refused_tree(Code::path_unsafe);
  EXPECT_TRUE(says(error, "'EMPTY' and 'empty'")) << error.line();
  EXPECT_TRUE(says(error, "rename it"));
  std::filesystem::remove(scratch_.path("tree/EMPTY"));
  scratch_.file("tree/lib/e\xcc\x81t\xc3\xa9", "x");
  refused_tree(Code::path_unsafe);
}

TEST_F(PackRefusal, A_tree_that_was_installed_and_an_artifact) {
  make_tree();
  scratch_.file("tree/.updagent/manifest.json", "{}");
  base::Error error = refused_tree(Code::path_unsafe);
  EXPECT_TRUE(says(error, "already holds '.updagent'")) << error.line();
  EXPECT_TRUE(says(error, "updagent sign"));
  std::filesystem::remove_all(scratch_.path("tree/.updagent"));
  packed(request(scratch_.path("tree"), scratch_.path("artifact.tar.gz")));
  refused(wanted("artifact.tar.gz"), Code::path_unsafe);
  error = refused_tar(tar_entry(file_fields(".updagent/x", 1), "x"), Code::path_unsafe);
  EXPECT_EQ(error.got(), "'.updagent/x'") << "also when it is the only folder of a tarball";
}

TEST_F(PackRefusal, Paths_of_a_tarball_that_leave_it) {
  base::Error error = refused_tar(tar_entry(file_fields("/etc/x", 1), "x"), Code::path_unsafe);
  EXPECT_EQ(error.got(), "a leading '/'");
  error = refused_tar(tar_entry(file_fields("a/../../x", 1), "x"), Code::path_unsafe);
  EXPECT_TRUE(says(error, "'a/../../x'"));
  error = refused_tar(tar_entry(link_fields('1', "h", "../x", 0644)), Code::path_unsafe);
  EXPECT_TRUE(says(error, "'../x'"));
}

TEST_F(PackRefusal, A_hard_link_of_a_tarball_without_its_file) {
  const std::string a = tar_entry(file_fields("d/a", 1), "x");
  base::Error error =
      refused_tar(a + tar_entry(link_fields('1', "d/h", "d/gone", 0644)), Code::link_unsafe);
  EXPECT_EQ(error.got(), "no such entry");
  EXPECT_TRUE(says(error, "'gone'")) << error.line();
  EXPECT_TRUE(says(error, "--hard-dereference"));
  error =
      refused_tar(tar_entry(link_fields('1', "h", "a", 0644)) + tar_entry(file_fields("a", 1), "x"),
                  Code::link_unsafe);
  EXPECT_EQ(error.got(), "no such entry") << "a later file is no target";
  error =
      refused_tar(tar_entry(directory_fields("d/")) + tar_entry(link_fields('1', "h", "d", 0644)),
                  Code::link_unsafe);
  EXPECT_EQ(error.got(), "a directory");
}

TEST_F(PackRefusal, A_file_below_something_that_is_no_directory) {
  refused_tar(tar_entry(link_fields('2', "l", "d", 0777)) + tar_entry(directory_fields("d/")) +
                  tar_entry(file_fields("l/x", 1), "x"),
              Code::path_unsafe);
}

TEST_F(PackRefusal, Paths_that_are_too_deep) {
  std::string deep = "tree";
  for (int i = 0; i < 201; ++i) deep += "/d";
  scratch_.folder(deep);
  base::Error error = refused_tree(Code::path_unsafe);
  EXPECT_EQ(error.expected(), "at most 200 components");
  EXPECT_EQ(error.got(), "201");
  std::string path;
  for (int i = 0; i < 40'000; ++i) path += "d/";
  error = refused_tar(testing::pax_header(testing::pax_record("path", path + "x")) +
                          tar_entry(file_fields("x", 1), "x"),
                      Code::path_unsafe);
  EXPECT_EQ(error.got(), "40001");
}

TEST_F(PackRefusal, Damaged_tarballs_and_what_is_none) {
  const std::string whole =
      gzip_member(tar_entry(file_fields("a", 5000), std::string(5000, 'x')) + end_of_archive());
  scratch_.file("cut.tgz", whole.substr(0, whole.size() / 2));
  base::Error error = refused(wanted("cut.tgz"), Code::artifact_damaged);
  EXPECT_FALSE(error.got().empty());
  scratch_.file("text.tgz", "hello");
  error = refused(wanted("text.tgz"), Code::artifact_damaged);
  EXPECT_EQ(error.expected(), "a tarball, plain or compressed with gzip or zstd");
  scratch_.file("empty.tgz", "");
  refused(wanted("empty.tgz"), Code::artifact_damaged);
  scratch_.file("cut.tar",
                tar_entry(file_fields("a", 5000), std::string(5000, 'x')).substr(0, 3000));
  refused(wanted("cut.tar"), Code::artifact_damaged);
}

TEST_F(PackRefusal, Inputs_that_are_not_there_or_hold_nothing) {
  base::Error error = refused(wanted("nowhere"), Code::usage);
  EXPECT_TRUE(says(error, "No such file")) << error.line();
  scratch_.folder("tree");
  error = refused_tree(Code::usage);
  EXPECT_TRUE(says(error, "nothing to pack")) << error.line();
  PackRequest device = wanted();
  device.input = "/dev/null";
  error = refused(device, Code::usage);
  EXPECT_EQ(error.expected(), "a directory or a tarball");
}

TEST_F(PackRefusal, Outputs_that_say_no_compression_or_would_replace_the_input) {
  make_tree();
  PackRequest bad = wanted();
  bad.output = scratch_.path("outputs/out.zip");
  base::Error error = refused(bad, Code::usage);
  EXPECT_EQ(error.expected(), "a name that ends in .tar.gz, .tgz or .tar.zst");
  bad.output = scratch_.path("nowhere/out.tgz");
  EXPECT_TRUE(says(refused(bad, Code::io_error), "nowhere"));
  scratch_.file("t.tgz", gzip_member(tar_entry(file_fields("a", 1), "x") + end_of_archive()));
  bad = wanted("t.tgz");
  bad.output = bad.input;
  error = refused(bad, Code::usage);
  EXPECT_TRUE(says(error, "would replace the input"));
}

TEST_F(PackRefusal, A_missing_app_or_version) {
  make_tree();
  PackRequest bad = wanted();
  bad.version.reset();
  base::Error error = refused(bad, Code::usage);
  EXPECT_TRUE(says(error, "version")) << error.line();
  bad.app.reset();
  bad.version = "1.0.0";
  error = refused(bad, Code::usage);
  EXPECT_TRUE(says(error, "app")) << error.line();
}

TEST_F(PackRefusal, A_spec_that_is_missing_wrong_or_a_link) {
  make_tree();
  PackRequest bad = wanted();
  bad.spec_path = scratch_.path("none.toml");
  EXPECT_TRUE(says(refused(bad, Code::usage), "none.toml"));
  scratch_.file("wrong.toml", "app = \"shop\"\nversion = \"1.0.0\"\ncolour = 1\n");
  bad.spec_path = scratch_.path("wrong.toml");
  EXPECT_TRUE(says(refused(bad, Code::usage), "colour"));
  scratch_.symlink("tree/updagent.toml", "empty");
  const base::Error error = refused_tree(Code::usage);
  EXPECT_EQ(error.got(), "a symlink");
  EXPECT_TRUE(says(error, "--spec"));
}

TEST_F(PackRefusal, The_private_key_in_the_packed_directory) {
  make_tree();
  scratch_.file("tree/release.key", "secret");
  PackRequest bad = wanted();
  bad.secrets = {scratch_.path("elsewhere.key"), scratch_.path("tree/release.key")};
  const base::Error error = refused(bad, Code::usage);
  EXPECT_TRUE(says(error, "'release.key' is the private key")) << error.line();
}

TEST_F(PackRefusal, A_copy_of_the_private_key_in_a_directory_or_a_tarball) {
  make_tree();
  scratch_.file("elsewhere.key", "-----BEGIN PRIVATE KEY-----\nMC4=\n");
  scratch_.file("tree/notes.txt", "-----BEGIN PRIVATE KEY-----\nMC4=\n");
  PackRequest bad = wanted();
  bad.secrets = {scratch_.path("none.key"), scratch_.path("elsewhere.key")};
  const base::Error of_tree = refused(bad, Code::usage);
  EXPECT_TRUE(says(of_tree, "'notes.txt' is the private key")) << of_tree.line();
  ASSERT_EQ(shell("tar -C '" + scratch_.path("tree") + "' -cf '" + scratch_.path("t.tar") + "' ."),
            0);
  bad.input = scratch_.path("t.tar");
  const base::Error of_tarball = refused(bad, Code::usage);
  EXPECT_TRUE(says(of_tarball, "'notes.txt' is the private key")) << of_tarball.line();
}

TEST_F(PackRefusal, An_envelope_that_could_not_be_made) {
  make_tree();
  PackRequest bad = wanted();
  bad.make_envelope = [](const std::string&, const std::string&, const base::Digest&) {
    return base::Result<std::string>(base::Error(Code::key_unusable, "no key"));
  };
  refused(bad, Code::key_unusable);
}

// The envelope is made between the reading for the digests and the reading for the archive.
class PackChange : public PackRefusal {
 protected:
  base::Error refused_after(const std::function<void()>& change) const {
    PackRequest bad = wanted();
    bad.make_envelope = [&](const std::string&, const std::string&, const base::Digest&) {
      change();
      return base::Result<std::string>(kEnvelope);
    };
    return refused(bad, Code::io_error);
  }
};

TEST_F(PackChange, Other_bytes_of_the_same_length_and_time) {
  make_tree();
  const base::Error error = refused_after([&] {
    scratch_.file("tree/lib/data", std::string(300'000, 'e'));
    scratch_.set_time("tree/lib/data", kThen);
  });
  EXPECT_TRUE(says(error, "'lib/data' changed while it was being packed")) << error.line();
}

TEST_F(PackChange, A_longer_shorter_or_missing_file) {
  make_tree();
  EXPECT_TRUE(says(refused_after([&] { scratch_.file("tree/lib/data", "short"); }), "changed"));
  EXPECT_TRUE(
      says(refused_after([&] { scratch_.file("tree/lib/data", std::string(400'000, 'd')); }),
           "changed"));
  EXPECT_TRUE(says(refused_after([&] { std::filesystem::remove(scratch_.path("tree/lib/data")); }),
                   "lib/data"));
}

TEST_F(PackChange, A_link_or_a_fifo_in_the_place_of_a_file) {
  make_tree();
  refused_after([&] {
    std::filesystem::remove(scratch_.path("tree/empty"));
    scratch_.symlink("tree/empty", "bin.txt");
  });
  std::filesystem::remove(scratch_.path("tree/empty"));
  scratch_.file("tree/empty", "");
  const base::Error error = refused_after([&] {
    std::filesystem::remove(scratch_.path("tree/empty"));
    ASSERT_EQ(::mkfifo(scratch_.path("tree/empty").c_str(), 0600), 0);
  });
  EXPECT_TRUE(says(error, "'empty' changed")) << error.line();
}

TEST_F(PackChange, A_folder_that_became_a_link) {
  make_tree();
  refused_after([&] {
    std::filesystem::rename(scratch_.path("tree/lib"), scratch_.path("lib"));
    scratch_.symlink("tree/lib", "../lib");
  });
}

// A file that may not grow past `bytes` stands for a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  sighandler_t handler_ = nullptr;
};

TEST_F(PackRefusal, A_full_disk_leaves_no_output_and_keeps_the_old_one) {
  make_tree();
  std::string noise;
  std::uint32_t state = 1;
  while (noise.size() < 300'000) {
    state = state * 1664525 + 1013904223;
    noise += static_cast<char>(state >> 24);
  }
  scratch_.file("tree/noise", noise);
  std::optional<base::Error> error;
  {
    const FileSizeLimit limit(100'000);
    error = refusal(wanted());
  }
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), Code::io_error);
  EXPECT_TRUE(says(*error, "outputs/out.tar.gz")) << error->line();
  EXPECT_TRUE(scratch_.names("outputs").empty());
  scratch_.file("outputs/out.tar.gz", "the old one");
  {
    const FileSizeLimit limit(100'000);
    error = refusal(wanted());
  }
  EXPECT_EQ(scratch_.names("outputs"), (std::vector<std::string>{"out.tar.gz"}));
  EXPECT_EQ(scratch_.read("outputs/out.tar.gz"), "the old one");
}

TEST_F(PackRefusal, A_full_TMPDIR_names_it) {
  scratch_.file("t.tar",
                tar_entry(file_fields("a", 200'000), std::string(200'000, 'x')) + end_of_archive());
  std::optional<base::Error> error;
  {
    const FileSizeLimit limit(100'000);
    error = refusal(wanted("t.tar"));
  }
  ASSERT_TRUE(error);
  EXPECT_TRUE(says(*error, "TMPDIR")) << error->line() << error->hint();
}

TEST_F(PackRefusal, A_TMPDIR_that_is_not_there_is_named) {
  const Variable tmpdir("TMPDIR", scratch_.path("nowhere"));
  scratch_.file("t.tar", tar_entry(file_fields("a", 1), "x") + end_of_archive());
  const base::Error error = refused(wanted("t.tar"), Code::io_error);
  EXPECT_TRUE(says(error, "nowhere")) << error.line();
  EXPECT_TRUE(says(error, "set TMPDIR"));
}

}  // namespace
}  // namespace updagent::release::test
