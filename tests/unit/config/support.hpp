// A node's configuration folder that goes away, and the checks of what load() says.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "agent/config/settings.hpp"

namespace updagent::config::test {

class Node {
 public:
  Node() {
    std::string pattern = std::filesystem::temp_directory_path() / "updagent-config-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    root_ = pattern;
    for (const char* folder : {"/etc", "/etc/conf.d", "/etc/apps.d"}) {
      std::filesystem::create_directories(root_ + folder);
      ::chmod((root_ + folder).c_str(), 0755);
    }
  }
  ~Node() { std::filesystem::remove_all(root_); }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const std::string& root() const { return root_; }
  Layout layout() const { return Layout::for_root(root_); }
  // `name` below etc/
  std::string file(const std::string& name) const { return root_ + "/etc/" + name; }
  std::string write(const std::string& name, const std::string& content, mode_t mode = 0644) const {
    std::ofstream(file(name), std::ios::binary) << content;
    ::chmod(file(name).c_str(), mode);
    return file(name);
  }
  base::Result<Settings> load(const std::string& app = "") const {
    return config::load(layout(), std::nullopt, app);
  }
  // Of node.toml with this content alone.
  base::Result<Settings> load_text(const std::string& content) const {
    write("node.toml", content);
    return load();
  }

 private:
  std::string root_;
};

// `result` is evaluated once.
#define EXPECT_INVALID(result)                                                \
  do {                                                                        \
    const auto& refused = (result);                                           \
    ASSERT_FALSE(refused.has_value());                                        \
    EXPECT_EQ(refused.error().code(), ::updagent::base::Code::config_invalid) \
        << refused.error().line();                                            \
    EXPECT_EQ(refused.error().exit(), ::updagent::base::Exit::usage);         \
  } while (false)

}  // namespace updagent::config::test
