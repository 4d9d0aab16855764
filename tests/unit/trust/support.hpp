// What the trust tests share: keys, a release's statement, a folder that goes away.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "agent/base/text.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust::test {

class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "updagent-trust-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content, mode_t mode = 0644) const {
    std::filesystem::create_directories(std::filesystem::path(file(name)).parent_path());
    std::ofstream(file(name), std::ios::binary) << content;
    ::chmod(file(name).c_str(), mode);
    return file(name);
  }
  std::string read(const std::string& name) const {
    std::ifstream stream(file(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  mode_t mode(const std::string& name) const {
    struct stat about{};
    ::stat(file(name).c_str(), &about);
    return about.st_mode & 07777;
  }

 private:
  std::string path_;
};

inline PrivateKey make_key(KeyType type = KeyType::ed25519) {
  return std::move(PrivateKey::generate(type).value());
}

inline PublicKey half_of(const PrivateKey& key, const std::string& name = "key") {
  PublicKey half = key.public_key().value();
  half.name = name;
  return half;
}

inline TrustSet trusting(std::vector<PublicKey> keys, int threshold = 1) {
  return {std::move(keys), threshold, "/etc/updagent/trust.d"};
}

inline Statement shop() {
  return {"shop", "1.4.2", base::sha256("the manifest")};
}

inline std::string unhex(std::string_view hex) {
  const auto bytes = base::from_hex(hex).value();
  return {bytes.begin(), bytes.end()};
}

// `result` is evaluated once; `wanted` is a name of base::Code.
#define EXPECT_REFUSED(result, wanted)                                                           \
  do {                                                                                           \
    const auto& refused = (result);                                                              \
    ASSERT_FALSE(refused.has_value());                                                           \
    EXPECT_EQ(refused.error().code(), ::updagent::base::Code::wanted) << refused.error().line(); \
  } while (false)

}  // namespace updagent::trust::test
