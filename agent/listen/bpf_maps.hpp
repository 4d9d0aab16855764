// BPF maps and programs by descriptor and by id. Ids begin anew at every boot, so whoever records
// one must expect that it names a stranger's map later: everything taken back is compared with what
// it should be before it is used.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::listen {

struct MapShape {
  std::string name;  // at most 15 bytes
  std::uint32_t type = 0;
  std::uint32_t key_size = 0;
  std::uint32_t value_size = 0;
  std::uint32_t entries = 0;
  std::uint32_t flags = 0;

  bool operator==(const MapShape&) const = default;
  std::string text() const;
};

base::Result<base::UniqueFd> create_map(const MapShape& shape);
// Code::not_found when the map is gone; Code::damaged when it is there and is another one.
base::Result<base::UniqueFd> map_by_id(std::uint32_t id, const MapShape& shape);
base::Status check_map(int fd, const MapShape& shape);
base::Result<std::uint32_t> map_id(int fd);

base::Result<std::uint32_t> program_id(int fd);
// Whether a program of this id is loaded; takes no reference to it.
base::Result<bool> program_exists(std::uint32_t id);
// Ids of the maps that a loaded program uses; empty when there is no such program.
base::Result<std::vector<std::uint32_t>> maps_of_program(std::uint32_t id);

base::Result<base::UniqueFd> duplicate_fd(int fd);

}  // namespace updagent::listen
