// The checks of a whole table: what can only be said once every entry is known.
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "agent/release/describe.hpp"
#include "agent/release/entry_rules.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Status;

// --- twins ------------------------------------------------------------------------------------

struct Free {
  void operator()(utf8proc_uint8_t* text) const { std::free(text); }
};

base::Result<std::string> map_unicode(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                   static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, Free> owner(mapped);
  if (length < 0)
    return Error(Code::path_unsafe, "the path " + in_quotes(text) + " can't be normalised")
        .got(utf8proc_errmsg(length));
  return std::string(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// Equal for two paths exactly when they differ by case or normalisation form alone. Normalised
// before it is folded too: folding alone depends on the order of combining marks (Unicode, D145).
base::Result<std::string> twin_key(std::string_view path) {
  if (is_ascii(path)) {
    std::string key(path);
    for (char& c : key) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    return key;
  }
  UPD_ASSIGN(const std::string normal, map_unicode(path, UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  return map_unicode(normal, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
}

// 20 bytes for each path instead of a second copy of all of them. 128 bits of SHA-256: nobody finds
// two keys that collide, and if so a release would be refused, not accepted.
struct TwinHash {
  std::array<std::uint8_t, 16> hash;
  std::uint32_t row;
  auto operator<=>(const TwinHash&) const = default;
};

TwinHash twin_hash(base::Sha256& sha256, std::string_view key, std::size_t row) {
  sha256.update(key);
  const base::Digest digest = sha256.finish();
  TwinHash result{.hash = {}, .row = static_cast<std::uint32_t>(row)};
  std::copy_n(digest.bytes.begin(), result.hash.size(), result.hash.begin());
  return result;
}

// --- links ------------------------------------------------------------------------------------

// Follows links as path_resolution(7) says, in a tree that has nothing but the table's entries.
class LinkWalk {
 public:
  explicit LinkWalk(const EntryTable& table) : table_(table) {}

  Status follow(const EntryView& link) {
    hops_ = 0;
    here_.clear();
    pending_.clear();
    UPD_TRY(enter(link, link));
    return walk(link);
  }

  // From the root; where() is what `path` leads to.
  Status follow_path(std::string_view path) {
    EntryView start;
    start.path = path;
    start.link_target = path;
    pending_.push_back(path);
    return walk(start);
  }
  const std::string& where() const { return here_; }

 private:
  Status walk(const EntryView& link) {
    while (!pending_.empty()) {
      if (pending_.back().empty()) {
        pending_.pop_back();
      } else if (auto status = step(link, take_component(pending_.back())); !status) {
        return status;
      }
    }
    return ok();
  }

  static Error unsafe(const EntryView& link, std::string expected, std::string got) {
    return Error(Code::link_unsafe, "the link " + in_quotes(link.path) + " is not safe")
        .expected(std::move(expected))
        .got(std::move(got));
  }

  // `next` stands where the walk is: go on in its directory with its target.
  Status enter(const EntryView& link, const EntryView& next) {
    if (++hops_ > kMaxLinkHops)
      return unsafe(link, "at most " + std::to_string(kMaxLinkHops) + " links in a row",
                    "a longer chain or a loop");
    here_ = parent_of(next.path);
    pending_.push_back(next.link_target);
    return ok();
  }

  Status step(const EntryView& link, std::string_view component) {
    if (++steps_ > kMaxLinkSteps)
      return Error(Code::manifest_too_large, "the symlinks are too long together")
          .expected("at most " + std::to_string(kMaxLinkSteps) + " path components on all ways")
          .got("more at " + in_quotes(link.path));
    if (component.empty() || component == ".") return ok();
    if (component == "..") return go_up(link);
    if (!here_.empty()) here_ += '/';
    here_ += component;
    // What isn't listed can't be a link: a way on from there only counts its depth.
    const auto found = table_.find(here_);
    if (!found) return ok();
    const EntryView next = table_.at(*found);
    return next.type == EntryType::symlink ? enter(link, next) : ok();
  }

  Status go_up(const EntryView& link) {
    if (here_.empty())
      return unsafe(link, "a target inside the release, other links followed",
                    in_quotes(link.link_target));
    here_.resize(parent_of(here_).size());
    return ok();
  }

  const EntryTable& table_;
  std::string here_;                       // physical: no link on the way
  std::vector<std::string_view> pending_;  // what is left of the targets, the innermost last
  int hops_ = 0;
  std::size_t steps_ = 0;  // of all walks
};

}  // namespace

base::Status EntryTable::check_twins() const {
  std::vector<TwinHash> hashes;
  hashes.reserve(rows_.size() + 1);
  base::Sha256 sha256;
  // Our own folder counts too; it has the number behind the last row.
  hashes.push_back(twin_hash(sha256, kReservedFolder, rows_.size()));
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    UPD_ASSIGN(const std::string key, twin_key(at(row).path));
    hashes.push_back(twin_hash(sha256, key, row));
  }
  std::sort(hashes.begin(), hashes.end());
  const auto twin =
      std::adjacent_find(hashes.begin(), hashes.end(),
                         [](const TwinHash& a, const TwinHash& b) { return a.hash == b.hash; });
  if (twin == hashes.end()) return ok();
  const std::uint32_t second = (twin + 1)->row;
  return Error(Code::path_unsafe, "two paths differ only by case or Unicode normalisation form")
      .expected("paths that stay different on every file system")
      .got(in_quotes(at(twin->row).path) + " and " +
           in_quotes(second == rows_.size() ? kReservedFolder : at(second).path));
}

std::optional<EntryView> EntryTable::find_file(std::string_view path) const {
  LinkWalk walk(*this);
  if (path.empty() || path.ends_with('/') || !walk.follow_path(path)) return std::nullopt;
  const auto found = find(walk.where());
  if (!found) return std::nullopt;
  const EntryView entry = at(*found);
  if (entry.type == EntryType::file) return entry;
  return entry.type == EntryType::hardlink ? std::optional(entry) : std::nullopt;
}

base::Status EntryTable::check_links() const {
  LinkWalk walk(*this);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    if (at(row).type != EntryType::symlink) continue;
    UPD_TRY(walk.follow(at(row)));
  }
  return ok();
}

}  // namespace updagent::release
