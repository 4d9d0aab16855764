// What the tests of pack share: a tree to pack, a packer with a fixed envelope, a reader.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/release/manifest.hpp"
#include "agent/release/pack.hpp"

namespace updagent::release::test {

// A temporary directory that is gone with the object, and things in it.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string path(const std::string& name = "") const;
  void folder(const std::string& name) const;  // with its parents
  // Makes the parents too.
  void file(const std::string& name, const std::string& content, mode_t mode = 0644) const;
  void symlink(const std::string& name, const std::string& target) const;
  void link(const std::string& name, const std::string& existing) const;
  // Everything below (and `name` itself), links too.
  void set_times(const std::string& name, std::int64_t seconds) const;
  void set_time(const std::string& name, std::int64_t seconds) const;
  std::string read(const std::string& name) const;
  std::vector<std::string> names(const std::string& folder = "") const;

 private:
  std::string root_;
};

inline constexpr std::int64_t kThen = 1718730000;  // 2024-06-18T17:00:00Z
inline constexpr const char* kEnvelope = R"({"payload":"e30=","signatures":[]})";

// Runs a shell command and gives its exit status; its output goes to the test's own.
int shell(const std::string& command);

// A request with the fixed envelope, for app "shop" version 1.4.2.
PackRequest request(const std::string& input, const std::string& output);
// The error of a pack that must fail; aborts the test's expectations otherwise.
std::optional<base::Error> refusal(const PackRequest& request);

// What the product's own strict reader finds.
struct ReadBack {
  std::string envelope;
  std::string manifest_text;
  Manifest manifest;
  std::map<std::string, std::string> contents;  // of files
};
ReadBack read_back(const std::string& artifact, const base::Digest& manifest);

// The paths of the manifest with their types: "bin/", "bin/x", "cur -> bin", "y = bin/x".
std::vector<std::string> listing(const Manifest& manifest);

// Takes every variable that pack reads out of the environment, and puts all back at the end.
class CleanEnvironment {
 public:
  CleanEnvironment();
  ~CleanEnvironment();
  CleanEnvironment(const CleanEnvironment&) = delete;
  CleanEnvironment& operator=(const CleanEnvironment&) = delete;

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

// Sets one variable for as long as it lives.
class Variable {
 public:
  Variable(std::string name, const std::string& value);
  ~Variable();
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_;
  std::optional<std::string> before_;
};

class PackTest : public ::testing::Test {
 protected:
  // Packs and expects it to work.
  PackResult packed(const PackRequest& wanted) const;
  // A small tree under "tree" with every kind of entry, all of one time.
  void make_tree() const;

  CleanEnvironment environment_;
  Scratch scratch_;
};

}  // namespace updagent::release::test
