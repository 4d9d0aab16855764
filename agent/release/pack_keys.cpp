#include "agent/release/pack_keys.hpp"

#include <fcntl.h>

#include <algorithm>

#include "agent/base/files.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {

bool begins_with_private_key(std::span<const std::uint8_t> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()),
                              std::min(head.size(), kKeyHeadBytes));
  const std::size_t begin = text.find("-----BEGIN ");
  return begin != std::string_view::npos &&
         text.find("PRIVATE KEY-----", begin) != std::string_view::npos;
}

base::Error is_the_private_key(std::string_view path) {
  return base::Error(base::Code::usage, in_quotes(path) + " is the private key")
      .hint("move the key out of what is packed: it would go to every node");
}

SigningKeys::SigningKeys(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const auto fd = base::open_path(path, O_RDONLY | O_NONBLOCK);
    if (!fd) continue;
    if (const auto digest = base::sha256_of_fd(fd->get(), path)) digests_.push_back(*digest);
  }
}

bool SigningKeys::contains(const base::Digest& digest) const {
  return std::find(digests_.begin(), digests_.end(), digest) != digests_.end();
}

}  // namespace updagent::release
