#include "agent/listen/unix_path.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/listen/socket_folder.hpp"
#include "agent/listen/unix_diag.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxDirectoryEntries = 100'000;  // beside a socket; more is not a run folder
constexpr std::string_view kMark = ".g";

// The folder of the public name, and that name in it.
struct Place {
  std::string folder;
  std::string name;
  UniqueFd directory;
  bool fixed = true;  // the path leads to that folder, whatever others do

  std::string own_name(std::uint64_t generation) const {
    return name + std::string(kMark) + std::to_string(generation);
  }
  std::string passing_name() const { return name + std::string(kMark) + "new"; }
};

Result<Place> place_of(const ListenerSpec& spec) {
  const std::size_t slash = spec.address.path.rfind('/');
  if (spec.address.transport != Transport::unix_path || slash == std::string::npos)
    return Error(base::Code::internal, "'" + spec.address.text() + "' is not a unix path");
  Place place;
  place.folder = slash == 0 ? "/" : spec.address.path.substr(0, slash);
  place.name = spec.address.path.substr(slash + 1);
  UPD_ASSIGN(SocketFolder found, open_socket_folder(place.folder));
  place.directory = std::move(found.fd);
  place.fixed = found.fixed;
  return place;
}

// What the descriptor names, in calls that take only a path.
std::string path_of(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

Error failed(const char* verb, const Place& place, const std::string& name) {
  return base::system_error(errno,
                            std::string("cannot ") + verb + " '" + place.folder + "/" + name + "'");
}

struct Found {
  UniqueFd file;  // O_PATH: names the inode, whatever becomes of the name
  std::uint64_t inode = 0;
  bool is_socket = false;

  // sock_diag has no more of it
  std::uint32_t low_inode() const { return static_cast<std::uint32_t>(inode); }
};

// What is at a name now; nothing if there is nothing.
Result<std::optional<Found>> look(const Place& place, const std::string& name) {
  Found found;
  found.file.reset(::openat(place.directory.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found.file && errno == ENOENT) return std::optional<Found>();
  struct stat status{};
  if (!found.file || ::fstat(found.file.get(), &status) != 0) return failed("look at", place, name);
  found.inode = status.st_ino;
  found.is_socket = S_ISSOCK(status.st_mode);
  return std::optional(std::move(found));
}

Status unlink_name(const Place& place, const std::string& name) {
  if (::unlinkat(place.directory.get(), name.c_str(), 0) == 0 || errno == ENOENT) return base::ok();
  return failed("remove", place, name);
}

// A second name for exactly this inode.
int link_to(const Found& found, const Place& place, const std::string& name) {
  return ::linkat(AT_FDCWD, path_of(found.file).c_str(), place.directory.get(), name.c_str(),
                  AT_SYMLINK_FOLLOW);
}

// Does anybody listen at this file? Asked by connecting, because its owner may be in another
// network namespace, where sock_diag does not look.
Result<bool> is_served(const Found& found) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return base::system_error(errno, "cannot open a unix socket");
  Address address;
  address.family = AF_UNIX;
  address.transport = Transport::unix_path;
  address.path = path_of(found.file);
  const SocketAddress raw = to_sockaddr(address);
  if (::connect(fd.get(), raw.get(), raw.length) == 0) return true;
  return errno != ECONNREFUSED && errno != ENOENT;
}

std::optional<std::uint64_t> generation_in(std::string_view entry, const Place& place) {
  const std::string prefix = place.name + std::string(kMark);
  if (!entry.starts_with(prefix)) return std::nullopt;
  return base::parse_u64(entry.substr(prefix.size()));
}

Result<std::vector<std::uint64_t>> generations_at(const Place& place) {
  UPD_ASSIGN(const auto entries,
             base::list_directory(path_of(place.directory), kMaxDirectoryEntries));
  std::vector<std::uint64_t> generations;
  for (const std::string& entry : entries)
    if (const auto generation = generation_in(entry, place)) generations.push_back(*generation);
  return generations;
}

Result<std::optional<std::uint64_t>> owner_of(const Place& place, std::uint64_t inode) {
  UPD_ASSIGN(const auto generations, generations_at(place));
  for (const std::uint64_t generation : generations) {
    UPD_ASSIGN(const auto own, look(place, place.own_name(generation)));
    if (own && own->is_socket && own->inode == inode) return std::optional(generation);
  }
  return std::optional<std::uint64_t>();
}

// May the file that is at the public name now make way?
Status check_replaceable(const ListenerSpec& spec, const Place& place, const Found& current) {
  if (!current.is_socket)
    return Error(base::Code::io_error, "'" + spec.address.path + "' is there and is no socket")
        .hint("move it away, or choose another path for the listener '" + spec.name + "'");
  UPD_ASSIGN(const auto owner, owner_of(place, current.inode));
  if (owner) return base::ok();
  UPD_ASSIGN(const bool served, is_served(current));
  if (!served) return base::ok();
  Error error(base::Code::io_error, "another server listens at '" + spec.address.path + "'");
  const auto holders = holders_of(spec.address);
  if (holders && !holders->empty()) error = std::move(error).got(describe(*holders));
  return std::move(error).hint("stop it, or take it over with 'updagent adopt'");
}

// The file is ours if it is what our socket is bound to: in a folder that the service may write,
// the name alone proves nothing, and root is about to change the owner of what is there.
Result<Found> bound_file(int fd, const Place& place, const std::string& name) {
  UPD_ASSIGN(const std::uint32_t inode, inode_of(fd));
  UPD_ASSIGN(const auto socket, unix_socket(inode));
  UPD_ASSIGN(auto found, look(place, name));
  if (found && found->is_socket && socket && socket->file == found->low_inode())
    return std::move(*found);
  return Error(base::Code::io_error,
               "'" + place.folder + "/" + name + "' was replaced while it was made")
      .hint("who else may write in that folder?");
}

Status give_mode_and_owner(const ListenerSpec& spec, const Found& found) {
  const uid_t owner = spec.owner.value_or(static_cast<uid_t>(-1));
  const gid_t group = spec.group.value_or(static_cast<gid_t>(-1));
  if (::fchownat(found.file.get(), "", owner, group, AT_EMPTY_PATH) != 0)
    return base::system_error(errno, "cannot give '" + spec.address.path + "' its owner");
  if (::chmod(path_of(found.file).c_str(), spec.mode) != 0)
    return base::system_error(errno, "cannot give '" + spec.address.path + "' its mode");
  return base::ok();
}

// A dead socket of an earlier boot may stand in the way; nothing else may.
Status clear_own_name(const Place& place, const std::string& name) {
  UPD_ASSIGN(const auto before, look(place, name));
  if (!before) return base::ok();
  UPD_ASSIGN(const auto sockets, named_unix_sockets());
  bool alive = !before->is_socket;
  for (const UnixSocket& socket : sockets)
    alive = alive || (socket.listening && socket.file == before->low_inode());
  if (!alive) return unlink_name(place, name);
  return Error(base::Code::io_error,
               "'" + place.folder + "/" + name + "' is there already and is not a dead socket");
}

}  // namespace

std::string generation_path(const ListenerSpec& spec, std::uint64_t generation) {
  return spec.address.path + std::string(kMark) + std::to_string(generation);
}

Result<UniqueFd> open_path_socket(const ListenerSpec& spec, std::uint64_t generation) {
  UPD_ASSIGN(const Place place, place_of(spec));
  Address own = spec.address;
  // Where others can change the way, the kernel must not look for the folder once more.
  own.path = place.fixed ? generation_path(spec, generation)
                         : path_of(place.directory) + "/" + place.own_name(generation);
  if (own.path.size() > kMaxUnixPath)
    return Error(base::Code::config_invalid, "the path of a generation's socket is too long")
        .expected("at most " + std::to_string(kMaxUnixPath) + " bytes")
        .got("'" + own.path + "'");
  UPD_TRY(clear_own_name(place, place.own_name(generation)));
  const int flags = SOCK_CLOEXEC | (spec.nonblocking ? SOCK_NONBLOCK : 0);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | flags, 0));
  if (!fd) return base::system_error(errno, "cannot open a unix socket");
  UPD_TRY_CONTEXT(apply_options(fd.get(), spec.options), spec.name);
  // bind(2) gives the file the mode of the socket: nobody may connect yet
  if (::fchmod(fd.get(), 0) != 0) return base::system_error(errno, "cannot change a socket's mode");
  const SocketAddress raw = to_sockaddr(own);
  if (::bind(fd.get(), raw.get(), raw.length) != 0 || ::listen(fd.get(), spec.backlog) != 0)
    return failed("listen at", place, place.own_name(generation));
  UPD_ASSIGN(const Found found, bound_file(fd.get(), place, place.own_name(generation)));
  UPD_TRY(give_mode_and_owner(spec, found));
  return fd;
}

Status restore_path(const ListenerSpec& spec, std::uint64_t generation, int fd) {
  UPD_ASSIGN(const Place place, place_of(spec));
  const std::string own = place.own_name(generation);
  UPD_ASSIGN(const auto there, look(place, own));
  if (there) return base::ok();
  UPD_ASSIGN(const Found found, bound_file(fd, place, place.name));
  if (link_to(found, place, own) == 0) return base::ok();
  return failed("link", place, own);
}

Status publish(const ListenerSpec& spec, std::uint64_t generation) {
  UPD_ASSIGN(const Place place, place_of(spec));
  UPD_ASSIGN(const auto own, look(place, place.own_name(generation)));
  if (!own || !own->is_socket)
    return Error(base::Code::io_error, "generation " + std::to_string(generation) +
                                           " has no socket for '" + spec.address.path + "'");
  UPD_ASSIGN(const auto current, look(place, place.name));
  if (!current) {
    if (link_to(*own, place, place.name) == 0) return base::ok();
    return failed("publish", place, place.name);  // EEXIST: somebody was quicker
  }
  if (current->inode == own->inode) return base::ok();
  UPD_TRY(check_replaceable(spec, place, *current));
  const std::string passing = place.passing_name();
  UPD_TRY(unlink_name(place, passing));  // of one that was killed here
  if (link_to(*own, place, passing) != 0) return failed("link", place, passing);
  const int renamed =
      ::renameat(place.directory.get(), passing.c_str(), place.directory.get(), place.name.c_str());
  const int rename_errno = errno;
  // rename(2) onto another name of the same file does nothing at all, and succeeds
  UPD_TRY(unlink_name(place, passing));
  if (renamed == 0) return base::ok();
  errno = rename_errno;
  return failed("publish", place, place.name);
}

Result<std::optional<std::uint64_t>> published_generation(const ListenerSpec& spec) {
  UPD_ASSIGN(const Place place, place_of(spec));
  UPD_ASSIGN(const auto current, look(place, place.name));
  if (!current || !current->is_socket) return std::optional<std::uint64_t>();
  return owner_of(place, current->inode);
}

Status adopt_public_name(const ListenerSpec& spec, std::uint64_t generation) {
  UPD_ASSIGN(const Place place, place_of(spec));
  UPD_ASSIGN(const auto current, look(place, place.name));
  if (!current || !current->is_socket)
    return Error(base::Code::not_found, "there is no socket at '" + spec.address.path + "'");
  if (link_to(*current, place, place.own_name(generation)) == 0) return base::ok();
  return failed("link", place, place.own_name(generation));
}

Status remove_path_socket(const ListenerSpec& spec, std::uint64_t generation) {
  UPD_ASSIGN(const Place place, place_of(spec));
  UPD_ASSIGN(const auto own, look(place, place.own_name(generation)));
  if (!own) return base::ok();
  UPD_ASSIGN(const auto current, look(place, place.name));
  if (current && current->inode == own->inode) UPD_TRY(unlink_name(place, place.name));
  return unlink_name(place, place.own_name(generation));
}

Status sweep_path_sockets(const ListenerSpec& spec, const std::set<std::uint64_t>& alive) {
  UPD_ASSIGN(const Place place, place_of(spec));
  UPD_ASSIGN(const auto generations, generations_at(place));
  UPD_ASSIGN(const auto sockets, named_unix_sockets());
  std::set<std::uint32_t> served;
  for (const UnixSocket& socket : sockets)
    if (socket.listening && socket.file) served.insert(*socket.file);
  for (const std::uint64_t generation : generations) {
    if (alive.count(generation) != 0) continue;
    UPD_ASSIGN(const auto own, look(place, place.own_name(generation)));
    if (!own || !own->is_socket || served.count(own->low_inode()) != 0) continue;
    UPD_TRY(remove_path_socket(spec, generation));
  }
  return unlink_name(place, place.passing_name());
}

}  // namespace updagent::listen
