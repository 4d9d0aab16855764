// What a tree needs of a file system, and whether it is there.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/reuse.hpp"

namespace updagent::store {

struct SpaceNeed {
  std::uint64_t bytes = 0;  // whole blocks and an estimate of metadata
  std::uint64_t inodes = 0;
};

SpaceNeed space_need(const release::EntryTable& table, const Reuse& reuse,
                     std::uint64_t block_bytes);
// Code::no_space with the figures. `directory` only for the message.
base::Status check_free_space(int directory_fd, const std::string& directory,
                              const release::EntryTable& table, const Reuse& reuse,
                              std::uint64_t min_free_bytes);
// "6,303"
std::string with_commas(std::uint64_t number);

}  // namespace updagent::store
