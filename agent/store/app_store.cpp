#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/staged_tree.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr const char* kDataBeingMade = ".data.new";
constexpr mode_t kDataMode = 0750;
constexpr mode_t kEnvelopeMode = 0444;

bool is_directory_at(int directory_fd, const std::string& name) {
  struct stat about{};
  return ::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISDIR(about.st_mode);
}

// Whoever can write in here can make `current` point anywhere.
Status check_ours(int fd, const std::string& path) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return base::system_error(errno, cannot("look at", path));
  if (is_trusted_owner(about) && !is_others_writable(about)) return base::ok();
  return Error(Code::config_invalid, "others may write in '" + path + "'")
      .expected("owned by root or this user, not writable by group or others")
      .got("uid " + std::to_string(about.st_uid) + ", mode " + mode_text(about.st_mode))
      .hint("chown root '" + path + "' && chmod go-w '" + path + "'");
}

Result<std::string> real_path(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (!real) return base::system_error(errno, cannot("find", path));
  return std::string(real.get());
}

// "releases/1.4.2" -> "1.4.2"; anything else was not written by us.
Result<std::optional<std::string>> version_of_link(int directory_fd, const std::string& name) {
  UPD_ASSIGN(const std::optional<std::string> target, base::read_link_at(directory_fd, name));
  if (!target) return std::optional<std::string>();
  const std::string prefix = std::string(kReleases) + "/";
  if (target->starts_with(prefix)) {
    std::string version = target->substr(prefix.size());
    if (check_version_name(version)) return std::optional<std::string>(std::move(version));
  }
  return Error(Code::damaged, "the link '" + name + "' was not made by updagent")
      .expected("releases/VERSION")
      .got("'" + *target + "'");
}

Status point_link(const AppStore& store, const std::string& name,
                  const std::optional<std::string>& version) {
  if (!version) return base::remove_file_durably(store.directory_fd(), name);
  UPD_TRY(check_version_name(*version));
  if (!store.has(*version))
    return Error(Code::not_found, "'" + name + "' can't point to a release that is not installed")
        .expected("a folder '" + store.path(*version) + "'")
        .got("none");
  return base::replace_symlink_durably(store.directory_fd(), name,
                                       std::string(kReleases) + "/" + *version);
}

Result<UniqueFd> open_own_file(const AppStore& store, const std::string& version,
                               const char* name) {
  UPD_TRY(check_version_name(version));
  if (!store.has(version))
    return Error(Code::not_found,
                 "version '" + version + "' of '" + store.name() + "' is not installed");
  return base::open_beneath(
      store.directory_fd(),
      std::string(kReleases) + "/" + version + "/" + release::kReservedFolder + "/" + name,
      O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

Status make_data_folder(int directory_fd, const base::Identity& owner) {
  UPD_TRY(base::remove_tree(directory_fd, kDataBeingMade));
  UPD_TRY(make_new_directory_at(directory_fd, kDataBeingMade, kPrivateDirectory));
  UPD_ASSIGN(const UniqueFd made,
             base::open_beneath(directory_fd, kDataBeingMade, O_RDONLY | O_DIRECTORY));
  if (::fchown(made.get(), owner.uid, owner.gid) != 0)
    return base::system_error(errno, "cannot give the data folder to '" + owner.user + "'");
  if (::fchmod(made.get(), kDataMode) != 0)
    return base::system_error(errno, cannot("chmod", kDataBeingMade));
  UPD_TRY(base::fsync_fd(made.get(), kDataBeingMade));
  return base::rename_durably(directory_fd, kDataBeingMade, directory_fd, kData, true);
}

}  // namespace

Result<AppStore> AppStore::open(const std::string& app_directory, const std::string& app,
                                bool create) {
  if (create) {
    UPD_TRY(base::make_directories(app_directory, kPublicDirectory));
    UPD_TRY(base::make_directories(app_directory + "/" + kReleases, kPublicDirectory));
    UPD_TRY(base::make_directories(app_directory + "/" + kIncoming, kPrivateDirectory));
  }
  // the driver's lock file alone does not make an app
  if (!base::exists(app_directory + "/" + kReleases))
    return Error(Code::not_found, "no app '" + app + "' is installed here")
        .expected("a folder '" + app_directory + "'")
        .got("none");
  UPD_ASSIGN(std::string path, real_path(app_directory));
  UPD_ASSIGN(UniqueFd directory, base::open_directory(path));
  UPD_TRY(check_ours(directory.get(), path));
  UPD_ASSIGN(const UniqueFd releases,
             base::open_beneath(directory.get(), kReleases, O_RDONLY | O_DIRECTORY));
  UPD_TRY(check_ours(releases.get(), path + "/" + kReleases));
  return AppStore(std::move(directory), std::move(path), app);
}

Status AppStore::prepare_data(const base::Identity& owner) {
  struct stat about{};
  // an operator may have put a link to another file system here
  if (::fstatat(directory_.get(), kData, &about, 0) == 0) {
    if (S_ISDIR(about.st_mode)) return base::ok();
    return Error(Code::config_invalid, "'" + path_ + "/" + kData + "' is in the way")
        .expected("a folder")
        .got("something else");
  }
  if (errno != ENOENT || base::exists_at(directory_.get(), kData))
    return base::system_error(errno, cannot("look at", path_ + "/" + kData));
  UPD_TRY_CONTEXT(make_data_folder(directory_.get(), owner),
                  "making '" + path_ + "/" + kData + "'");
  return base::ok();
}

Result<Links> AppStore::links() const {
  Links links;
  UPD_ASSIGN(links.current, version_of_link(directory_.get(), kCurrent));
  UPD_ASSIGN(links.committed, version_of_link(directory_.get(), kCommitted));
  return links;
}

Status AppStore::set_current(const std::optional<std::string>& version) {
  return point_link(*this, kCurrent, version);
}

Status AppStore::set_committed(const std::optional<std::string>& version) {
  return point_link(*this, kCommitted, version);
}

Result<std::vector<std::string>> AppStore::versions() const {
  UPD_ASSIGN(std::vector<std::string> names,
             base::list_directory(path_ + "/" + kReleases, kMaxReleases));
  std::erase_if(names, [this](const std::string& name) { return !has(name); });
  return names;
}

bool AppStore::has(const std::string& version) const {
  return check_version_name(version).has_value() &&
         is_directory_at(directory_.get(), std::string(kReleases) + "/" + version);
}

std::string AppStore::path(const std::string& version) const {
  return path_ + "/" + kReleases + "/" + version;
}

Result<release::Manifest> AppStore::manifest(const std::string& version) const {
  UPD_ASSIGN(const UniqueFd file, open_own_file(*this, version, kManifestName));
  release::FdSource source(file.get(), path(version) + "/" + release::kManifestPath);
  return release::parse_manifest(source);
}

Result<release::Manifest> AppStore::description(const std::string& version) const {
  UPD_ASSIGN(const UniqueFd file, open_own_file(*this, version, kManifestName));
  release::FdSource source(file.get(), path(version) + "/" + release::kManifestPath);
  return release::parse_description(source);
}

Result<base::Digest> AppStore::manifest_digest(const std::string& version) const {
  UPD_ASSIGN(const UniqueFd file, open_own_file(*this, version, kManifestName));
  return base::sha256_of_fd(file.get(), path(version) + "/" + release::kManifestPath);
}

Result<std::string> AppStore::envelope(const std::string& version) const {
  UPD_ASSIGN(const UniqueFd file, open_own_file(*this, version, kEnvelopeName));
  return base::read_fd(file.get(), path(version) + "/" + release::kEnvelopePath,
                       release::kMaxEnvelopeBytes);
}

// Written in incoming/, so that a crash leaves nothing extra in a checked tree.
Status AppStore::replace_envelope(const std::string& version, std::string_view envelope) {
  UPD_TRY(open_own_file(*this, version, kEnvelopeName));
  UPD_ASSIGN(const UniqueFd incoming,
             base::open_beneath(directory_.get(), kIncoming, O_RDONLY | O_DIRECTORY));
  UPD_ASSIGN(const UniqueFd own, base::open_beneath(directory_.get(),
                                                    std::string(kReleases) + "/" + version + "/" +
                                                        release::kReservedFolder,
                                                    O_RDONLY | O_DIRECTORY));
  const std::string name = unique_name(kEnvelopePrefix);
  const auto replace = [&]() -> Status {
    UPD_ASSIGN(const UniqueFd file, create_file_at(incoming.get(), name));
    UPD_TRY(base::write_all(file.get(), envelope, name));
    if (::fchmod(file.get(), kEnvelopeMode) != 0)
      return base::system_error(errno, cannot("chmod", name));
    UPD_TRY(base::fsync_fd(file.get(), name));
    return base::rename_durably(incoming.get(), name, own.get(), kEnvelopeName);
  };
  Status status = replace();
  if (!status) ::unlinkat(incoming.get(), name.c_str(), 0);
  return status;
}

Status AppStore::remove(const std::string& version) {
  UPD_ASSIGN(const Links now, links());
  if (now.current == version || now.committed == version)
    return Error(Code::io_error, "version '" + version + "' of '" + app_ + "' can't be removed")
        .expected("a release that is neither current nor committed")
        .got(now.current == version ? "the current one" : "the committed one");
  if (!has(version))
    return Error(Code::not_found, "version '" + version + "' of '" + app_ + "' is not installed");
  UPD_ASSIGN(const UniqueFd releases,
             base::open_beneath(directory_.get(), kReleases, O_RDONLY | O_DIRECTORY));
  UPD_ASSIGN(const UniqueFd incoming,
             base::open_beneath(directory_.get(), kIncoming, O_RDONLY | O_DIRECTORY));
  const std::string name = unique_name(std::string(kRemovedPrefix) + version + "-");
  UPD_TRY(base::rename_durably(releases.get(), version, incoming.get(), name));
  return base::remove_tree(incoming.get(), name);
}

}  // namespace updagent::store
