// Puts releases on disk and makes one of them current. Start here for agent/store/: it promises
// that `current` and `committed` each name a complete tree at every instant, and that what lies in
// releases/ was hashed while it was written. It never decides which release should run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::store {

inline constexpr std::size_t kMaxReleases = 10'000;  // names in releases/: a bound for listings

struct Links {
  std::optional<std::string> current;  // version
  std::optional<std::string> committed;
};

// apps/APP. All methods are for the holder of the app's lock unless they only read.
class AppStore {
 public:
  // Makes apps/APP, releases/ and incoming/ (0700) if `create`; otherwise Code::not_found when the
  // app is unknown here. Code::config_invalid when somebody else may write in one of them.
  static base::Result<AppStore> open(const std::string& app_directory, const std::string& app,
                                     bool create);
  AppStore(AppStore&&) noexcept = default;
  AppStore& operator=(AppStore&&) noexcept = default;

  // Makes data/ (0750) for `owner`, all at once. One that is there is never touched.
  base::Status prepare_data(const base::Identity& owner);

  base::Result<Links> links() const;
  // One rename(2), directory fsynced. Nothing: the link is removed (the first release failed).
  base::Status set_current(const std::optional<std::string>& version);
  base::Status set_committed(const std::optional<std::string>& version);

  base::Result<std::vector<std::string>> versions() const;  // trees in releases/, sorted by name
  bool has(const std::string& version) const;
  std::string path(const std::string& version) const;  // absolute, for cwd and environment
  base::Result<release::Manifest> manifest(const std::string& version) const;
  // The same without the entries, and without the memory they take.
  base::Result<release::Manifest> description(
      const std::string& version) const;  // of an installed tree
  base::Result<base::Digest> manifest_digest(const std::string& version) const;
  base::Result<std::string> envelope(const std::string& version) const;
  base::Status replace_envelope(const std::string& version, std::string_view envelope);
  // Refused (Code::io_error) for current and committed. The tree is renamed out of releases/ first,
  // so that no half-removed tree is ever under its name.
  base::Status remove(const std::string& version);
  // What crashes left: half-removed trees, dry runs, temporary links, incoming/ older than
  // `older_than` or past `max_bytes` (oldest first), but never what belongs to incoming/KEEP.
  base::Status sweep(base::Milliseconds older_than, std::uint64_t max_bytes,
                     const std::string& keep);

  int directory_fd() const { return directory_.get(); }
  const std::string& directory() const { return path_; }
  const std::string& name() const { return app_; }

 private:
  AppStore(base::UniqueFd directory, std::string path, std::string app)
      : directory_(std::move(directory)), path_(std::move(path)), app_(std::move(app)) {}
  base::UniqueFd directory_;
  std::string path_;
  std::string app_;
};

// --- staging ----------------------------------------------------------------------------------

struct StagingOptions {
  std::vector<std::string>
      reuse_from;           // versions whose unchanged files may be taken; verified ones only
  bool throw_away = false;  // --dry-run: removed by the destructor
  std::uint64_t min_free_bytes = 0;
};

struct StagingReport {
  std::uint64_t written_bytes = 0;
  std::uint64_t reused_bytes = 0;  // not written again
  std::uint64_t reused_files = 0;
  std::uint64_t linked_files = 0;  // of those by hard link to a kept release's
  std::uint64_t cloned_files = 0;  // of those by reflink; the rest a killed run had unpacked
  // Kept files that are not what their own release's manifest says: "1.4.1/bin/x: expected sha256
  // .., got ..". They were not taken; that release is damaged. At most kMaxProblems.
  std::vector<std::string> damaged_kept;
};

// incoming/DIGEST: envelope and manifest first, then the entries as the reader hands them over,
// then finish() makes all of it durable and publish() renames it into releases/VERSION. What a
// killed run has left there is hashed again file by file and taken instead of written, then
// removed.
class Staging : public release::EntrySink {
 public:
  static base::Result<std::unique_ptr<Staging>> begin(const AppStore& store,
                                                      const base::Digest& manifest,
                                                      std::string_view envelope,
                                                      const StagingOptions& options);
  ~Staging() override;

  // A file to stream the manifest into while its digest is checked; then parsed from there, if what
  // lies there has the digest that begin() was told (Code::manifest_digest).
  base::Status manifest_bytes(std::string_view piece);
  base::Result<release::Manifest> parse_manifest();
  // Finds what of the kept releases can be taken, then: bytes and inodes against statvfs, less what
  // will probably be reused; Code::no_space with the figures. If only the remains of a killed run
  // stand in the way, they go. `manifest` stays where it is until the last entry was taken.
  base::Status check_space(const release::Manifest& manifest);

  base::Status directory(const release::EntryView& entry) override;
  base::Status begin_file(const release::EntryView& entry) override;
  base::Status file_bytes(std::span<const std::uint8_t> bytes) override;
  base::Status end_file() override;
  base::Status symlink(const release::EntryView& entry) override;
  base::Status hardlink(const release::EntryView& entry) override;

  // Directory modes and mtimes, then everything on stable storage (but for a throw-away one). When
  // the disk fails at that, nothing stays: what it has lost can't be told from what it has.
  base::Status finish(const release::EntryTable& table);
  // rename(2) to releases/VERSION. A tree that stands there (failed, or damaged and in service)
  // changes places with the new one in the same call and is then removed.
  base::Status publish(const std::string& version);
  const StagingReport& report() const;
  // After a failure that was the artifact's fault: nothing of it stays.
  void discard();
  std::string path() const;  // where the tree is now: for a look at it before it is published

 private:
  struct Impl;
  explicit Staging(std::unique_ptr<Impl> impl);
  base::Status prepare(const AppStore& store, std::string_view envelope);
  std::unique_ptr<Impl> impl_;
};

// --- checking what is installed ------------------------------------------------------------------

struct TreeReport {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string>
      problems;  // "lib/a.js: expected sha256 .., got ..", "extra file x"; at most kMaxProblems
};
inline constexpr std::size_t kMaxProblems = 20;
// Every entry: type, mode, size, digest, link target, owner (root or we), no file capabilities;
// nothing missing, nothing extra; the .updagent folder holds envelope and manifest. Stops looking
// at kMaxProblems. `interrupt` may be null.
base::Result<TreeReport> verify_tree(const std::string& path, const release::Manifest& manifest,
                                     base::Interrupt* interrupt);

// --- retention

struct Candidate {
  std::string version;
  std::string state;  // good, failed, staged
  std::int64_t installed_us = 0;
};
// What may go: failed and staged first, then good ones beyond the newest `keep`; never a protected
// one.
std::vector<std::string> plan_retention(std::vector<Candidate> releases, int keep,
                                        const std::vector<std::string>& protected_versions);
// A process other than this one has its working directory, root, executable, a mapping or an open
// file below `path` (scan of /proc, as far as we may look; names as this mount namespace sees
// them).
base::Result<bool> in_use(const std::string& path);

}  // namespace updagent::store
