// The signed description of a release. Start here for agent/release/: it says what a release is
// (types, strict readers, writers) and never trusts, fetches or installs anything.
// The format is docs/artifact.md, its JSON schema schema/manifest.schema.json.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/byte_source.hpp"
#include "agent/base/clock.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/release/bounds.hpp"
#include "agent/release/rollout.hpp"
#include "agent/release/semver.hpp"
#include "agent/release/service.hpp"
#include "agent/release/text_arena.hpp"

namespace updagent::release {

inline constexpr int kManifestSchema = 1;
inline constexpr std::size_t kMaxEntries = 262'144;
inline constexpr std::uint64_t kMaxManifestBytes = 64ULL * 1024 * 1024;
inline constexpr std::size_t kMaxPathBytes = 4095;  // PATH_MAX without its NUL
inline constexpr std::size_t kMaxPathDepth =
    200;  // components; trees are walked with a descriptor a level
inline constexpr std::size_t kMaxComponentBytes = 255;  // NAME_MAX
inline constexpr std::size_t kMaxProbes = 32;
// All of manifest.json but the array `entries`: it is held as a tree, 20 times its size at worst.
inline constexpr std::size_t kMaxDescriptionBytes = 1024 * 1024;
inline constexpr std::int64_t kMaxTime =
    077777777777;  // 2242: what 11 octal digits of a ustar header hold
inline constexpr std::uint64_t kMaxTotalBytes =
    1ULL << 53;  // of all files: an exact JSON number everywhere
// Paths and link targets of all entries: what bounds the table when names are long.
inline constexpr std::uint64_t kMaxNameBytes = 32ULL * 1024 * 1024;
inline constexpr int kMaxLinkHops = 40;  // MAXSYMLINKS of the kernel
// Path components looked at while all links are followed: 64 for each possible entry.
inline constexpr std::size_t kMaxLinkSteps = 64 * kMaxEntries;

// Names inside the artifact and inside an installed tree.
inline constexpr const char* kEnvelopePath = ".updagent/release.dsse.json";
inline constexpr const char* kManifestPath = ".updagent/manifest.json";
inline constexpr const char* kReservedFolder = ".updagent";

enum class EntryType : std::uint8_t { file, directory, symlink, hardlink };
std::string_view entry_type_name(EntryType type);  // "file" ...

// One row of the table; the views live as long as the table.
struct EntryView {
  std::string_view path;  // relative, '/'-separated, no '.', '..' or empty component
  EntryType type = EntryType::file;
  std::uint16_t mode =
      0;  // permission bits 0777 only; 0777 for symlinks; a hard link repeats its target's
  std::uint64_t size = 0;  // bytes of a file, 0 otherwise
  std::int64_t mtime = 0;  // seconds since the epoch, >= 0
  base::Digest sha256;     // of a file's bytes; zero otherwise
  std::string_view
      link_target;  // symlink: as in symlink(2); hardlink: path of an earlier file entry
};

// Compact (60 bytes and the path per entry; it grows without a copy), in the order of the archive:
// strictly ascending byte order of the paths, so duplicates can't be said and find() is a binary
// search.
class EntryTable {
 public:
  std::size_t size() const { return rows_.size(); }
  EntryView at(std::size_t index) const;
  std::optional<std::size_t> find(std::string_view path) const;
  const base::Digest& sha256_of(std::size_t index) const { return rows_[index].sha256; }
  // The rules of docs/artifact.md, "Entries": order, portable names, parents listed before their
  // children, hard links to earlier files, symlinks that stay in the tree as they are spelt.
  // No partial effect on error.
  base::Status add(const EntryView& entry);
  // Follows every symlink through the table as the kernel would: none may leave the tree by way of
  // another one. Checked once, after the last add.
  base::Status check_links() const;
  // The file that the kernel would find by `path` from the release's root, symlinks followed;
  // nothing when that is no file of the release.
  std::optional<EntryView> find_file(std::string_view path) const;
  // Paths that differ only by case or by Unicode normalisation form: checked once, after the last
  // add.
  base::Status check_twins() const;
  std::uint64_t total_file_bytes() const { return total_file_bytes_; }
  std::uint64_t name_bytes() const { return name_bytes_; }
  std::size_t memory_bytes() const;

 private:
  struct Row {
    std::uint64_t size : 54;  // kMaxTotalBytes
    std::uint64_t mode : 9;
    std::uint64_t mtime : 33;  // kMaxTime
    std::uint64_t path_length : 12;
    std::uint64_t target_length : 12;
    std::uint64_t type : 2;
    std::uint32_t name_at;  // the path, then the target
    base::Digest sha256;
  };
  std::string_view path_of(const Row& row) const { return names_.at(row.name_at, row.path_length); }

  std::deque<Row> rows_;  // in blocks: a vector holds three times its size while it grows
  TextArena names_;
  std::uint64_t total_file_bytes_ = 0;
  std::uint64_t name_bytes_ = 0;
};

struct Hooks {
  std::optional<Command> pre_upgrade;    // the new release's, before anything is switched
  std::optional<Command> post_switch;    // the new release's, after `current` moved
  std::optional<Command> post_commit;    // the new release's; a failure is only logged
  std::optional<Command> post_rollback;  // the old release's
};

enum class ProbeType : std::uint8_t { exec, http, tcp };

struct Probe {
  std::string name;
  ProbeType type = ProbeType::exec;
  Command command;  // exec; its timeout is `timeout` below
  std::string url;  // http
  std::vector<std::pair<int, int>> expect_status = {{200, 299}};  // http: inclusive ranges
  std::string expect_body;  // http: must occur in the first 64 KiB; "" = not looked at
  std::string address;      // tcp: HOST:PORT or [V6]:PORT
  base::Milliseconds initial_delay{0};
  base::Milliseconds interval{1000};
  base::Milliseconds timeout{1000};
  int failures = 3;   // in a row, then unhealthy
  int successes = 1;  // in a row, then healthy
};

struct Requires {
  std::string agent;                     // a requirement as in satisfies(), "" = any
  std::string arch;                      // uname -m, "" = any
  std::optional<SemVer> rollback_floor;  // the oldest version that can run on data this one touched
};

struct Manifest {
  std::string app;
  SemVer version;
  std::int64_t created = 0;     // seconds since the epoch, UTC
  std::string source_revision;  // "" when unknown
  std::string source_repository;
  std::string builder;  // "github-actions run 42", "" when unknown
  std::string strategy{kStrategyFiles};
  // Of [service], for every strategy: hooks and exec probes have them too.
  std::string user;       // "" = the node's default
  Variables environment;  // placeholders of the service's generation when there is a service
  std::optional<Service> service;  // there exactly when runs_a_service(strategy)
  Hooks hooks;
  std::vector<Probe> probes;
  Preflight preflight;
  Rollout rollout;
  std::vector<Gate> gates;
  int keep = 3;  // good releases; 1 to 1000
  Requires needs;
  EntryTable entries;
};

// Reads the whole source as a stream; memory is the table's. Code::manifest_invalid names the rule,
// Code::manifest_too_large the bound, Code::strategy_unsupported a strategy that is none of
// service.hpp's.
base::Result<Manifest> parse_manifest(base::ByteSource& source);

// The same without the table: `entries` stays empty, memory is that of one row. For a release whose
// manifest was checked as a whole when it was installed. Each entry is handed to `visit`, if there
// is one: checked alone (path, mode, time, size), not against the others; its error ends it all.
using EntryVisitor = std::function<base::Status(const EntryView& entry)>;
base::Result<Manifest> parse_description(base::ByteSource& source, const EntryVisitor& visit = {});

// The canonical bytes: depends on the value alone. `sink` gets pieces of at most 64 KiB.
base::Status write_manifest(const Manifest& manifest,
                            const std::function<base::Status(std::string_view)>& sink);

}  // namespace updagent::release
