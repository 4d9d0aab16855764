#include <gtest/gtest.h>

#include <iostream>

#include "agent/base/failpoints.hpp"
#include "agent/base/file_lock.hpp"
#include "agent/base/files.hpp"

namespace {

using updagent::base::Status;

Status play(const std::vector<std::string>& words) {
  namespace base = updagent::base;
  const std::string& role = words.at(0);
  if (role == "write-file") return base::write_file_durably(words.at(1), words.at(2), 0640);
  if (role == "replace-link") {
    UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(words.at(1)));
    return base::replace_symlink_durably(directory.get(), words.at(2), words.at(3));
  }
  if (role == "rename") {
    UPD_ASSIGN(const base::UniqueFd from, base::open_directory(words.at(1)));
    UPD_ASSIGN(const base::UniqueFd to, base::open_directory(words.at(3)));
    return base::rename_durably(from.get(), words.at(2), to.get(), words.at(4));
  }
  if (role == "pass") {
    for (std::size_t i = 1; i < words.size(); ++i)
      std::cout << words[i] << " " << base::failpoint::fail(words[i]) << "\n";
    return base::ok();
  }
  return base::Error(base::Code::usage, "no such role: " + role);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2 && std::string(argv[1]) == "--role") {
    const Status status = play({argv + 2, argv + argc});
    if (!status) std::cout << status.error().line() << "\n";
    return status ? 0 : 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
