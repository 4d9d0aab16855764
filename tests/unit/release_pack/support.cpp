#include "tests/unit/release_pack/support.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "agent/release/artifact_reader.hpp"

namespace updagent::release::test {

namespace fs = std::filesystem;

Scratch::Scratch() {
  std::string pattern = fs::temp_directory_path() / "updagent-pack-test-XXXXXX";
  root_ = ::mkdtemp(pattern.data());
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

std::string Scratch::path(const std::string& name) const {
  return name.empty() ? root_ : root_ + "/" + name;
}

void Scratch::folder(const std::string& name) const {
  fs::create_directories(path(name));
}

void Scratch::file(const std::string& name, const std::string& content, mode_t mode) const {
  fs::create_directories(fs::path(path(name)).parent_path());
  std::ofstream(path(name), std::ios::binary) << content;
  ::chmod(path(name).c_str(), mode);
}

void Scratch::symlink(const std::string& name, const std::string& target) const {
  fs::create_directories(fs::path(path(name)).parent_path());
  fs::create_symlink(target, path(name));
}

void Scratch::link(const std::string& name, const std::string& existing) const {
  fs::create_directories(fs::path(path(name)).parent_path());
  fs::create_hard_link(path(existing), path(name));
}

void Scratch::set_time(const std::string& name, std::int64_t seconds) const {
  const timespec times[2] = {{seconds, 0}, {seconds, 123456789}};
  ::utimensat(AT_FDCWD, path(name).c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void Scratch::set_times(const std::string& name, std::int64_t seconds) const {
  for (const auto& entry : fs::recursive_directory_iterator(path(name)))
    set_time(fs::relative(entry.path().parent_path(), root_) / entry.path().filename(), seconds);
  set_time(name, seconds);
}

std::string Scratch::read(const std::string& name) const {
  std::ifstream file(path(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Scratch::names(const std::string& folder) const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path(folder)))
    names.push_back(entry.path().filename());
  return names;
}

int shell(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

PackRequest request(const std::string& input, const std::string& output) {
  PackRequest wanted;
  wanted.input = input;
  wanted.output = output;
  wanted.app = "shop";
  wanted.version = "1.4.2";
  wanted.make_envelope = [](const std::string&, const std::string&, const base::Digest&) {
    return base::Result<std::string>(kEnvelope);
  };
  return wanted;
}

std::optional<base::Error> refusal(const PackRequest& wanted) {
  const auto result = pack(wanted);
  if (!result) return result.error();
  ADD_FAILURE() << "packed what had to be refused";
  return std::nullopt;
}

namespace {

class Contents final : public EntrySink {
 public:
  explicit Contents(std::map<std::string, std::string>& into) : into_(into) {}
  base::Status directory(const EntryView&) override { return base::ok(); }
  base::Status begin_file(const EntryView& entry) override {
    current_ = &into_[std::string(entry.path)];
    return base::ok();
  }
  base::Status file_bytes(std::span<const std::uint8_t> bytes) override {
    current_->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return base::ok();
  }
  base::Status end_file() override { return base::ok(); }
  base::Status symlink(const EntryView&) override { return base::ok(); }
  base::Status hardlink(const EntryView&) override { return base::ok(); }

 private:
  std::map<std::string, std::string>& into_;
  std::string* current_ = nullptr;
};

std::string line_of(const EntryView& entry) {
  const std::string path(entry.path);
  switch (entry.type) {
    case EntryType::file:
      return path;
    case EntryType::directory:
      return path + "/";
    case EntryType::symlink:
      return path + " -> " + std::string(entry.link_target);
    case EntryType::hardlink:
      return path + " = " + std::string(entry.link_target);
  }
  return "?";
}

}  // namespace

ReadBack read_back(const std::string& artifact, const base::Digest& digest) {
  ReadBack back;
  const base::UniqueFd fd(::open(artifact.c_str(), O_RDONLY | O_CLOEXEC));
  FdSource source(fd.get(), artifact);
  ArtifactReader reader(source, nullptr);
  auto envelope = reader.read_envelope();
  EXPECT_TRUE(envelope) << envelope.error().line();
  if (envelope) back.envelope = *envelope;
  const auto read = reader.read_manifest(digest, [&](std::string_view piece) {
    back.manifest_text += piece;
    return base::ok();
  });
  EXPECT_TRUE(read) << read.error().line();
  MemorySource text(back.manifest_text);
  auto manifest = parse_manifest(text);
  EXPECT_TRUE(manifest) << manifest.error().line();
  if (!manifest) return back;
  back.manifest = std::move(*manifest);
  Contents sink(back.contents);
  const auto entries = reader.read_entries(back.manifest.entries, sink, {});
  EXPECT_TRUE(entries) << entries.error().line();
  return back;
}

std::vector<std::string> listing(const Manifest& manifest) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < manifest.entries.size(); ++i)
    lines.push_back(line_of(manifest.entries.at(i)));
  return lines;
}

CleanEnvironment::CleanEnvironment() {
  for (const char* name :
       {"SOURCE_DATE_EPOCH", "GITHUB_SHA", "GITHUB_REPOSITORY", "GITHUB_RUN_ID",
        "GITHUB_SERVER_URL", "CI_COMMIT_SHA", "CI_PROJECT_URL", "CI_JOB_ID", "BUILDKITE_COMMIT",
        "BUILDKITE_BUILD_NUMBER", "BUILDKITE_REPO", "GIT_COMMIT", "GIT_URL", "BUILD_URL"}) {
    const char* value = std::getenv(name);
    before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
    ::unsetenv(name);
  }
}

CleanEnvironment::~CleanEnvironment() {
  for (const auto& [name, value] : before_) {
    if (value)
      ::setenv(name.c_str(), value->c_str(), 1);
    else
      ::unsetenv(name.c_str());
  }
}

Variable::Variable(std::string name, const std::string& value) : name_(std::move(name)) {
  if (const char* before = std::getenv(name_.c_str()); before != nullptr) before_ = before;
  ::setenv(name_.c_str(), value.c_str(), 1);
}

Variable::~Variable() {
  if (before_)
    ::setenv(name_.c_str(), before_->c_str(), 1);
  else
    ::unsetenv(name_.c_str());
}

PackResult PackTest::packed(const PackRequest& wanted) const {
  auto result = pack(wanted);
  EXPECT_TRUE(result) << result.error().line() << " / " << result.error().hint();
  return result ? *result : PackResult();
}

void PackTest::make_tree() const {
  scratch_.file("tree/bin/shop", "#!/bin/sh\necho shop\n", 0755);
  scratch_.file("tree/bin.txt", "sorts between bin and bin/shop\n", 0600);
  scratch_.file("tree/empty", "");
  scratch_.file("tree/lib/data", std::string(300'000, 'd'));
  scratch_.file("tree/lib/\xc3\xa9t\xc3\xa9", "summer\n");
  scratch_.folder("tree/var/none");
  scratch_.symlink("tree/cur", "bin/shop");
  scratch_.link("tree/lib/same", "tree/bin/shop");
  scratch_.set_times("tree", kThen);
}

}  // namespace updagent::release::test
