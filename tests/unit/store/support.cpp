#include "support.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::store::testing {

using release::EntryType;

TempDir::TempDir(bool in_memory) {
  const char* chosen = std::getenv("TMPDIR");
  std::string name = chosen != nullptr ? chosen : "/tmp";
  if (in_memory && ::access("/dev/shm", W_OK | X_OK) == 0) name = "/dev/shm";
  name += "/store-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TempDir::~TempDir() {
  const auto parent = base::open_directory(path_.substr(0, path_.rfind('/')));
  if (parent)
    static_cast<void>(
        base::remove_tree(parent->get(), path_.substr(path_.rfind('/') + 1)).has_value());
}

Item file(std::string path, std::string content, std::uint16_t mode, std::int64_t mtime) {
  return {std::move(path), EntryType::file, mode, std::move(content), mtime};
}
Item folder(std::string path, std::uint16_t mode, std::int64_t mtime) {
  return {std::move(path), EntryType::directory, mode, "", mtime};
}
Item link_to(std::string path, std::string target, std::int64_t mtime) {
  return {std::move(path), EntryType::symlink, 0777, std::move(target), mtime};
}
Item hard_link(std::string path, std::string target) {
  return {std::move(path), EntryType::hardlink, 0, std::move(target), 0};
}

Recipe sample_tree() {
  return {folder("bin"),
          file("bin/tool", "#!/bin/sh\necho one\n", 0755),
          folder("lib", 0775),
          file("lib/a.js", "console.log('a')\n", 0664, 1'600'000'000),
          hard_link("lib/b.js", "lib/a.js"),
          file("lib/empty", ""),
          link_to("tool", "bin/tool")};
}

Recipe many_files(std::size_t count) {
  Recipe recipe = {folder("d")};
  for (std::size_t i = 0; i < count; ++i)
    recipe.push_back(file("d/f" + std::to_string(i), "content " + std::to_string(i)));
  return recipe;
}

Recipe with(Recipe recipe, const Item& changed) {
  std::erase_if(recipe, [&](const Item& one) { return one.path == changed.path; });
  recipe.push_back(changed);
  return recipe;
}

namespace {

const Item& item_at(const Recipe& all, const std::string& path) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Item& one) { return one.path == path; });
  if (found == all.end()) std::abort();
  return *found;
}

release::EntryView view_of(const Item& item, const Recipe& all) {
  release::EntryView view{item.path, item.type, item.mode, 0, item.mtime, {}, {}};
  if (item.type == EntryType::file) {
    view.size = item.content.size();
    view.sha256 = base::sha256(item.content);
  }
  if (item.type == EntryType::symlink || item.type == EntryType::hardlink)
    view.link_target = item.content;
  if (item.type == EntryType::hardlink) {
    view.mode = item_at(all, item.content).mode;
    view.mtime = item_at(all, item.content).mtime;
  }
  return view;
}

}  // namespace

Built release_of(const std::string& version, Recipe recipe) {
  Built built;
  std::sort(recipe.begin(), recipe.end(),
            [](const Item& a, const Item& b) { return a.path < b.path; });
  built.items = std::move(recipe);
  built.manifest.app = "app";
  built.manifest.version = *release::parse_semver(version);
  for (const Item& item : built.items) {
    const base::Status added = built.manifest.entries.add(view_of(item, built.items));
    EXPECT_TRUE(added) << added.error().line();
  }
  const base::Status written = release::write_manifest(built.manifest, [&](std::string_view piece) {
    built.manifest_text += piece;
    return base::ok();
  });
  EXPECT_TRUE(written) << written.error().line();
  built.digest = base::sha256(built.manifest_text);
  return built;
}

AppStore open_store(const TempDir& root) {
  auto store = AppStore::open(root / "app", "app", true);
  if (!store) {
    std::cerr << store.error().line() << "\n";
    std::abort();
  }
  return std::move(*store);
}

base::Result<std::unique_ptr<Staging>> begin(const AppStore& store, const Built& built,
                                             const StagingOptions& options) {
  UPD_ASSIGN(std::unique_ptr<Staging> staging,
             Staging::begin(store, built.digest, kEnvelope, options));
  const std::string_view text = built.manifest_text;
  UPD_TRY(staging->manifest_bytes(text.substr(0, text.size() / 2)));
  UPD_TRY(staging->manifest_bytes(text.substr(text.size() / 2)));
  UPD_TRY(staging->parse_manifest());
  UPD_TRY(staging->check_space(built.manifest));
  return staging;
}

base::Status send(Staging& staging, const Item& item, const Recipe& all) {
  const release::EntryView view = view_of(item, all);
  switch (item.type) {
    case EntryType::directory:
      return staging.directory(view);
    case EntryType::symlink:
      return staging.symlink(view);
    case EntryType::hardlink:
      return staging.hardlink(view);
    case EntryType::file:
      break;
  }
  UPD_TRY(staging.begin_file(view));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(item.content.data());
  const std::size_t half = item.content.size() / 2;
  UPD_TRY(staging.file_bytes(std::span(bytes, half)));
  UPD_TRY(staging.file_bytes(std::span(bytes + half, item.content.size() - half)));
  return staging.end_file();
}

base::Status send_all(Staging& staging, const Built& built) {
  for (const Item& item : built.items) UPD_TRY(send(staging, item, built.items));
  return base::ok();
}

base::Status install(const AppStore& store, const std::string& version, const Built& built,
                     const StagingOptions& options, StagingReport* report) {
  UPD_ASSIGN(const std::unique_ptr<Staging> staging, begin(store, built, options));
  UPD_TRY(send_all(*staging, built));
  UPD_TRY(staging->finish(built.manifest.entries));
  if (report != nullptr) *report = staging->report();
  return staging->publish(version);
}

base::Status deploy(AppStore& store, const std::string& version, const Built& built,
                    const StagingOptions& options, StagingReport* report) {
  const auto links = store.links();
  if (!links) return base::Error(links.error());
  // a crash between publish and switch leaves the tree of a deployment that never ended
  if (store.has(version) && links->current != version && links->committed != version)
    UPD_TRY(store.remove(version));
  if (!store.has(version)) UPD_TRY(install(store, version, built, options, report));
  UPD_TRY(store.set_current(version));
  return store.set_committed(version);
}

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.is_open()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct stat stat_of(const std::string& path) {
  struct stat about{};
  EXPECT_EQ(::lstat(path.c_str(), &about), 0) << path;
  return about;
}

void write_text(const std::string& path, const std::string& text) {
  ::chmod(path.c_str(), 0644);
  std::ofstream out(path, std::ios::trunc);
  out << text;
  ASSERT_TRUE(out.good()) << path;
}

std::string problems_of(const TreeReport& report) {
  return base::join(report.problems, "\n");
}

std::string damage_of(const AppStore& store, const std::string& version) {
  const auto manifest = store.manifest(version);
  if (!manifest) return manifest.error().line();
  const auto report = verify_tree(store.path(version), *manifest, nullptr);
  if (!report) return report.error().line();
  return problems_of(*report);
}

namespace {

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t count = 0; (count = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  return text;
}

}  // namespace

ChildResult run_child(const std::string& scenario, const std::string& root,
                      const std::string& failpoints) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  const base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(write_end.get(), STDOUT_FILENO);
    ::setenv("UPDAGENT_FAILPOINTS", failpoints.c_str(), 1);
    ::setenv("UPDAGENT_FAILPOINTS_TRACE", (root + "/trace").c_str(), 1);
    ::execl("/proc/self/exe", "store_test", "--child", scenario.c_str(), root.c_str(), nullptr);
    ::_exit(127);
  }
  write_end.reset();
  ChildResult result;
  result.output = read_all(read_end.get());
  int status = 0;
  ::waitpid(pid, &status, 0);
  result.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  return result;
}

// "small": the sample tree, one file changed. "many": more files than are fsynced for themselves.
// "remove": takes 0.9.0 away.
int child_main(const std::string& scenario, const std::string& root) {
  if (scenario == "remove") {
    auto existing = AppStore::open(root + "/app", "app", false);
    return existing && existing->remove("0.9.0") ? 0 : 1;
  }
  const Recipe base_tree = scenario == "many" ? many_files(100) : sample_tree();
  const Built built = release_of("2.0.0", with(base_tree, file("changed", "of 2.0.0")));
  auto store = AppStore::open(root + "/app", "app", true);
  StagingReport report;
  StagingOptions options;
  options.reuse_from = {"1.0.0"};
  base::Status status =
      store ? deploy(*store, "2.0.0", built, options, &report) : base::Status(store.error());
  if (!status) {
    std::cout << status.error().code_name() << ": " << status.error().line() << std::endl;
    return 1;
  }
  std::cout << "reused " << report.reused_files << " linked " << report.linked_files << " written "
            << report.written_bytes << std::endl;
  return 0;
}

}  // namespace updagent::store::testing
