// The files of schema/ inside the binary (made by schema/embed.cmake at build time).
#pragma once

#include <string_view>
#include <vector>

namespace updagent::schema {

struct Migration {
  int version;            // NNNN of the file name
  std::string_view name;  // the file name
  std::string_view sql;
};

const std::vector<Migration>& migrations();

}  // namespace updagent::schema
