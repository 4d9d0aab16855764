// Small trees for the tests of agent/store/, and the test binary as its own child: failpoints are
// read from the environment once per process.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/store/store.hpp"

namespace updagent::store::testing {

class TempDir {
 public:
  // In memory: for tests that run many times and only count the calls, not the disk.
  explicit TempDir(bool in_memory = false);
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Item {
  std::string path;
  release::EntryType type = release::EntryType::file;
  std::uint16_t mode = 0644;
  std::string content;  // of a file; the target of a link
  std::int64_t mtime = 1'700'000'000;
};

Item file(std::string path, std::string content, std::uint16_t mode = 0644,
          std::int64_t mtime = 1'700'000'000);
Item folder(std::string path, std::uint16_t mode = 0755, std::int64_t mtime = 1'700'000'100);
Item link_to(std::string path, std::string target, std::int64_t mtime = 1'700'000'200);
Item hard_link(std::string path, std::string target);

// Content addressed by path; the order of the archive is made by release_of().
using Recipe = std::vector<Item>;
Recipe sample_tree();                             // every type of entry, seven of them
Recipe many_files(std::size_t count);             // more than kFsyncEachLimit when asked for
Recipe with(Recipe recipe, const Item& changed);  // replaces the item of that path, or adds it

struct Built {
  release::Manifest manifest;
  std::string manifest_text;
  base::Digest digest;
  Recipe items;  // sorted as in the manifest
};
Built release_of(const std::string& version, Recipe recipe);

inline constexpr const char* kEnvelope = "{\"payload\":\"\"}";

AppStore open_store(const TempDir& root);  // ROOT/app, made
// begin() and the manifest.
base::Result<std::unique_ptr<Staging>> begin(const AppStore& store, const Built& built,
                                             const StagingOptions& options = {});
base::Status send(Staging& staging, const Item& item, const Recipe& all);
base::Status send_all(Staging& staging, const Built& built);
// All of it up to publish(); the report if wanted.
base::Status install(const AppStore& store, const std::string& version, const Built& built,
                     const StagingOptions& options = {}, StagingReport* report = nullptr);
// install() and both links: what a deployment does.
base::Status deploy(AppStore& store, const std::string& version, const Built& built,
                    const StagingOptions& options, StagingReport* report = nullptr);

std::string read_text(const std::string& path);
struct stat stat_of(const std::string& path);  // lstat
void write_text(const std::string& path, const std::string& text);
std::string problems_of(const TreeReport& report);  // joined by newlines
// Verifies releases/VERSION; "" when it is whole.
std::string damage_of(const AppStore& store, const std::string& version);

struct ChildResult {
  bool killed = false;
  int exit_code = -1;
  std::string output;  // of deploy(): "error line" or the figures of the report
};
// This binary with `--child SCENARIO ROOT` and UPDAGENT_FAILPOINTS=failpoints; the names that it
// passes go to ROOT/trace.
ChildResult run_child(const std::string& scenario, const std::string& root,
                      const std::string& failpoints);
int child_main(const std::string& scenario, const std::string& root);

}  // namespace updagent::store::testing
