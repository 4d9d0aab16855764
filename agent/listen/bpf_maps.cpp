#include "agent/listen/bpf_maps.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include <array>
#include <cerrno>

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::uint32_t kMaxMapsOfProgram = 16;  // ours uses three

Result<bpf_map_info> map_info(int fd) {
  bpf_map_info info{};
  std::uint32_t size = sizeof info;
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
    return base::system_error(errno, "cannot ask for the shape of a BPF map");
  return info;
}

}  // namespace

std::string MapShape::text() const {
  return "'" + name + "' of type " + std::to_string(type) + ", key " + std::to_string(key_size) +
         ", value " + std::to_string(value_size) + ", entries " + std::to_string(entries) +
         ", flags " + std::to_string(flags);
}

Result<UniqueFd> create_map(const MapShape& shape) {
  bpf_map_create_opts options{};
  options.sz = sizeof options;
  options.map_flags = shape.flags;
  UniqueFd fd(::bpf_map_create(static_cast<bpf_map_type>(shape.type), shape.name.c_str(),
                               shape.key_size, shape.value_size, shape.entries, &options));
  if (!fd) return base::system_error(errno, "cannot create the BPF map '" + shape.name + "'");
  return fd;
}

Status check_map(int fd, const MapShape& shape) {
  UPD_ASSIGN(const bpf_map_info info, map_info(fd));
  const std::string name(info.name, ::strnlen(info.name, sizeof info.name));
  const MapShape found{name,          info.type, info.key_size, info.value_size, info.max_entries,
                       info.map_flags};
  if (found == shape) return base::ok();
  return Error(base::Code::damaged, "that BPF map is not the one that was recorded")
      .expected(shape.text())
      .got(found.text());
}

Result<UniqueFd> map_by_id(std::uint32_t id, const MapShape& shape) {
  UniqueFd fd(::bpf_map_get_fd_by_id(id));
  if (!fd && errno == ENOENT)
    return Error(base::Code::not_found,
                 "there is no BPF map with the id " + std::to_string(id) + " any more");
  if (!fd)
    return base::system_error(errno, "cannot open the BPF map with the id " + std::to_string(id));
  UPD_TRY(check_map(fd.get(), shape));
  return fd;
}

Result<std::uint32_t> map_id(int fd) {
  UPD_ASSIGN(const bpf_map_info info, map_info(fd));
  return info.id;
}

Result<std::uint32_t> program_id(int fd) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
    return base::system_error(errno, "cannot ask for the id of a BPF program");
  return info.id;
}

Result<bool> program_exists(std::uint32_t id) {
  if (id == 0) return false;
  std::uint32_t next = 0;
  if (::bpf_prog_get_next_id(id - 1, &next) == 0) return next == id;
  if (errno == ENOENT) return false;
  return base::system_error(errno, "cannot list BPF programs");
}

Result<std::vector<std::uint32_t>> maps_of_program(std::uint32_t id) {
  const UniqueFd program(::bpf_prog_get_fd_by_id(id));
  if (!program && errno == ENOENT) return std::vector<std::uint32_t>();
  if (!program)
    return base::system_error(errno,
                              "cannot open the BPF program with the id " + std::to_string(id));
  std::array<std::uint32_t, kMaxMapsOfProgram> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<std::uint64_t>(ids.data());
  std::uint32_t size = sizeof info;
  if (::bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0)
    return base::system_error(errno, "cannot ask for the maps of a BPF program");
  const std::size_t count = std::min<std::size_t>(info.nr_map_ids, ids.size());
  return std::vector<std::uint32_t>(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

Result<UniqueFd> duplicate_fd(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return base::system_error(errno, "cannot duplicate a descriptor");
  return copy;
}

}  // namespace updagent::listen
