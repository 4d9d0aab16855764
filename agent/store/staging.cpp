#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/store/durability.hpp"
#include "agent/store/file_writer.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/reuse.hpp"
#include "agent/store/space.hpp"
#include "agent/store/staged_tree.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;
using release::EntryType;
using release::EntryView;

constexpr mode_t kOwnFileMode = 0444;
constexpr std::size_t kCopyBytes = 256 * 1024;

Status copy_bytes(int from_fd, int to_fd, std::string_view name) {
  std::vector<std::uint8_t> buffer(kCopyBytes);
  off_t at = 0;
  for (;;) {
    const ssize_t count = ::pread(from_fd, buffer.data(), buffer.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::system_error(errno, cannot("read", name));
    if (count == 0) return base::ok();
    UPD_TRY(base::write_all(
        to_fd, std::span<const std::uint8_t>(buffer.data(), static_cast<std::size_t>(count)),
        name));
    at += count;
  }
}

}  // namespace

struct Staging::Impl {
  std::string app_directory;
  std::string name;  // in incoming/
  base::Digest digest;
  StagingOptions options;
  StagingReport report;
  UniqueFd incoming;  // opened before the first write: syncfs reports errors since then
  UniqueFd releases;
  UniqueFd manifest_file;
  StagedTree tree;
  Reuse reuse;
  FileWriter writer;
  Unflushed unflushed;
  std::size_t entries = 0;
  bool finished = false;
  bool gone = false;  // published or removed

  std::string path() const { return app_directory + "/" + kIncoming + "/" + name; }
  std::string left_name() const { return name + kLeftSuffix; }
  Status set_aside();
  Status make_own_folder(std::string_view envelope);
  Status find_sources();
  Status drop_leftover();
  Status count_entry();
  void count(const Taken& taken, std::uint64_t bytes);
  Status copy_link(int target_fd, const EntryView& entry);
  Status seal_own_files();
  Status set_directory_attributes(const release::EntryTable& table);
  Status seal(const release::EntryTable& table);
  Status remove();
};

// The tree of a killed run becomes a source. When there is one already, both hold a beginning of
// the same list of entries: the longer one stays.
Status Staging::Impl::set_aside() {
  if (!base::exists_at(incoming.get(), name)) return base::ok();
  if (base::exists_at(incoming.get(), left_name())) {
    const std::string folder = app_directory + "/" + kIncoming + "/";
    UPD_ASSIGN(const std::uint64_t newer, base::disk_usage(folder + name));
    UPD_ASSIGN(const std::uint64_t older, base::disk_usage(folder + left_name()));
    if (newer <= older) return base::remove_tree(incoming.get(), name);
    UPD_TRY(base::remove_tree(incoming.get(), left_name()));
  }
  return base::rename_durably(incoming.get(), name, incoming.get(), left_name(), true);
}

Status Staging::Impl::make_own_folder(std::string_view envelope) {
  UPD_TRY(make_new_directory_at(tree.root_fd(), release::kReservedFolder, kPrivateDirectory));
  UPD_ASSIGN(const UniqueFd folder,
             base::open_beneath(tree.root_fd(), release::kReservedFolder, O_RDONLY | O_DIRECTORY));
  UPD_ASSIGN(UniqueFd file, create_file_at(folder.get(), kEnvelopeName));
  UPD_TRY(base::write_all(file.get(), envelope, release::kEnvelopePath));
  if (::fchmod(file.get(), kOwnFileMode) != 0)
    return base::system_error(errno, cannot("chmod", release::kEnvelopePath));
  reuse.set_clone(can_clone(incoming.get(), file.get()));
  unflushed.add(std::move(file));
  UPD_ASSIGN(manifest_file, create_file_at(folder.get(), kManifestName));
  return base::ok();
}

Status Staging::Impl::find_sources() {
  for (const std::string& version : options.reuse_from) {
    auto root = base::open_beneath(releases.get(), version, O_RDONLY | O_DIRECTORY);
    if (root)
      reuse.add_source(version, std::move(*root));
    else
      reuse.note_damage(version + ": " + root.error().line());
  }
  if (options.throw_away || !base::exists_at(incoming.get(), left_name())) return base::ok();
  UPD_ASSIGN(UniqueFd left,
             base::open_beneath(incoming.get(), left_name(), O_RDONLY | O_DIRECTORY));
  reuse.set_leftover(std::move(left));
  return base::ok();
}

Status Staging::Impl::drop_leftover() {
  reuse.set_leftover(UniqueFd());
  if (options.throw_away) return base::ok();
  return base::remove_tree(incoming.get(), left_name());
}

Status Staging::prepare(const AppStore& store, std::string_view envelope) {
  Impl& self = *impl_;
  UPD_ASSIGN(self.incoming,
             base::open_beneath(store.directory_fd(), kIncoming, O_RDONLY | O_DIRECTORY));
  UPD_ASSIGN(self.releases,
             base::open_beneath(store.directory_fd(), kReleases, O_RDONLY | O_DIRECTORY));
  if (!self.options.throw_away) UPD_TRY(self.set_aside());
  UPD_TRY(make_new_directory_at(self.incoming.get(), self.name, kPrivateDirectory));
  UPD_ASSIGN(UniqueFd root,
             base::open_beneath(self.incoming.get(), self.name, O_RDONLY | O_DIRECTORY));
  self.tree = StagedTree(std::move(root));
  UPD_TRY(self.make_own_folder(envelope));
  return self.find_sources();
}

Staging::Staging(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Staging::~Staging() {
  if (impl_ && impl_->options.throw_away) discard();
}

Result<std::unique_ptr<Staging>> Staging::begin(const AppStore& store, const base::Digest& manifest,
                                                std::string_view envelope,
                                                const StagingOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->app_directory = store.directory();
  impl->name = options.throw_away ? unique_name(kDryPrefix) : manifest.hex();
  impl->digest = manifest;
  impl->options = options;
  std::unique_ptr<Staging> staging(new Staging(std::move(impl)));
  UPD_TRY_CONTEXT(staging->prepare(store, envelope), "preparing '" + staging->path() + "'");
  return staging;
}

Status Staging::manifest_bytes(std::string_view piece) {
  return base::write_all(impl_->manifest_file.get(), piece, release::kManifestPath);
}

Result<release::Manifest> Staging::parse_manifest() {
  FileHasher hasher;
  UPD_ASSIGN(const base::Digest got,
             hasher.hash(impl_->manifest_file.get(), release::kManifestPath));
  if (got != impl_->digest)
    return Error(Code::manifest_digest, "the manifest is not the one that was signed")
        .expected("sha256 " + impl_->digest.hex())
        .got(got.hex());
  if (::lseek(impl_->manifest_file.get(), 0, SEEK_SET) != 0)
    return base::system_error(errno, cannot("read", release::kManifestPath));
  release::FdSource source(impl_->manifest_file.get(), release::kManifestPath);
  return release::parse_manifest(source);
}

Status Staging::check_space(const release::Manifest& manifest) {
  Impl& self = *impl_;
  self.reuse.match(manifest.entries);
  const auto check = [&] {
    return check_free_space(self.incoming.get(), self.app_directory, manifest.entries, self.reuse,
                            self.options.min_free_bytes);
  };
  Status fits = check();
  if (fits || self.options.throw_away || !base::exists_at(self.incoming.get(), self.left_name()))
    return fits;
  UPD_TRY(self.drop_leftover());
  return check();
}

Status Staging::Impl::count_entry() {
  if (finished || gone) return Error(Code::internal, "an entry came after the tree was finished");
  ++entries;
  return base::ok();
}

Status Staging::directory(const EntryView& entry) {
  UPD_TRY(impl_->count_entry());
  return impl_->tree.make_directory(entry.path);
}

void Staging::Impl::count(const Taken& taken, std::uint64_t bytes) {
  report.reused_bytes += bytes;
  ++report.reused_files;
  if (taken.how == Taken::How::by_link) ++report.linked_files;
  if (taken.how == Taken::How::by_clone) ++report.cloned_files;
}

Status Staging::begin_file(const EntryView& entry) {
  Impl& self = *impl_;
  UPD_TRY(self.count_entry());
  UPD_ASSIGN(Taken taken, self.reuse.take(entry, self.tree));
  if (taken.how != Taken::How::nothing) {
    self.count(taken, entry.size);
    return self.writer.open(entry, std::move(taken.file), true);
  }
  UPD_ASSIGN(UniqueFd file, self.tree.create_file(entry.path));
  return self.writer.open(entry, std::move(file), false);
}

Status Staging::file_bytes(std::span<const std::uint8_t> bytes) {
  return impl_->writer.write(bytes);
}

Status Staging::end_file() {
  Impl& self = *impl_;
  UPD_ASSIGN(UniqueFd file, self.writer.close());
  if (!self.writer.is_already_there()) self.report.written_bytes += self.writer.size();
  self.unflushed.add(std::move(file));
  return base::ok();
}

Status Staging::symlink(const EntryView& entry) {
  UPD_TRY(impl_->count_entry());
  return impl_->tree.make_symlink(entry.path, entry.link_target, entry.mtime);
}

Status Staging::hardlink(const EntryView& entry) {
  UPD_TRY(impl_->count_entry());
  UPD_ASSIGN(const UniqueFd target, impl_->tree.open(entry.link_target, O_RDONLY));
  UPD_ASSIGN(const bool linked, impl_->tree.link(target.get(), entry.path));
  return linked ? base::ok() : impl_->copy_link(target.get(), entry);
}

// Where the file system can't link, a second file with the same bytes does as well.
Status Staging::Impl::copy_link(int target_fd, const EntryView& entry) {
  UPD_ASSIGN(UniqueFd file, tree.create_file(entry.path));
  UPD_TRY(copy_bytes(target_fd, file.get(), entry.path));
  UPD_TRY(
      set_attributes(file.get(), installed_mode(entry.type, entry.mode), entry.mtime, entry.path));
  unflushed.add(std::move(file));
  return base::ok();
}

Status Staging::Impl::seal_own_files() {
  if (::fchmod(manifest_file.get(), kOwnFileMode) != 0)
    return base::system_error(errno, cannot("chmod", release::kManifestPath));
  unflushed.add(std::move(manifest_file));
  UPD_ASSIGN(const UniqueFd folder,
             base::open_beneath(tree.root_fd(), release::kReservedFolder, O_RDONLY | O_DIRECTORY));
  if (::fchmod(folder.get(), kPublicDirectory) != 0 ||
      ::fchmod(tree.root_fd(), kPublicDirectory) != 0)
    return base::system_error(errno, cannot("chmod", path()));
  return base::ok();
}

// Backwards through ascending paths: children come before their parent, whose mtime they would
// move.
Status Staging::Impl::set_directory_attributes(const release::EntryTable& table) {
  for (std::size_t i = table.size(); i-- > 0;) {
    const EntryView entry = table.at(i);
    if (entry.type != EntryType::directory) continue;
    UPD_ASSIGN(const UniqueFd directory, tree.open(entry.path, O_RDONLY | O_DIRECTORY));
    UPD_TRY(set_attributes(directory.get(), installed_mode(entry.type, entry.mode), entry.mtime,
                           entry.path));
  }
  return base::ok();
}

Status Staging::Impl::seal(const release::EntryTable& table) {
  UPD_TRY(seal_own_files());
  UPD_TRY(set_directory_attributes(table));
  UPD_TRY(drop_leftover());
  return options.throw_away ? base::ok() : unflushed.flush(tree, table, incoming);
}

Status Staging::finish(const release::EntryTable& table) {
  Impl& self = *impl_;
  if (self.finished || self.gone || self.writer.is_open() || self.entries != table.size())
    return Error(Code::internal, "the tree can't be finished now")
        .expected(std::to_string(table.size()) + " whole entries")
        .got(std::to_string(self.entries));
  Status sealed = self.seal(table);
  // After a failed flush the cache may show bytes that the disk never got: nothing to resume from.
  if (!sealed) discard();
  self.finished = sealed.has_value();
  return sealed;
}

Status Staging::publish(const std::string& version) {
  Impl& self = *impl_;
  UPD_TRY(check_version_name(version));
  if (!self.finished || self.gone || self.options.throw_away)
    return Error(Code::internal, "a tree that is not finished can't be published");
  if (!base::exists_at(self.releases.get(), version)) {
    UPD_TRY(
        base::rename_durably(self.incoming.get(), self.name, self.releases.get(), version, true));
    self.gone = true;
    return base::ok();
  }
  UPD_TRY(base::exchange_durably(self.incoming.get(), self.name, self.releases.get(), version));
  self.gone = true;
  return base::remove_tree(self.incoming.get(), self.name);
}

const StagingReport& Staging::report() const {
  impl_->report.damaged_kept = impl_->reuse.damaged();
  return impl_->report;
}

std::string Staging::path() const {
  return impl_->path();
}

Status Staging::Impl::remove() {
  UPD_TRY(base::remove_tree(incoming.get(), name));
  return drop_leftover();
}

// What can't be removed now, sweep() removes; there is nobody to tell.
void Staging::discard() {
  if (impl_->gone || !impl_->incoming) return;
  static_cast<void>(impl_->remove());
  impl_->gone = true;
}

}  // namespace updagent::store
