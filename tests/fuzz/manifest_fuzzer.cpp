// Any bytes must end in a manifest or an error. What was read can be written, and is read back as
// the same: the canonical form is one form.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/release/artifact_reader.hpp"
#include "agent/release/manifest.hpp"

namespace {

namespace release = updagent::release;
using updagent::base::Result;

void must(bool condition) {
  if (!condition) std::abort();
}

Result<release::Manifest> parse(std::string_view text) {
  release::MemorySource source(text);
  return release::parse_manifest(source);
}

Result<std::string> write(const release::Manifest& manifest) {
  std::string out;
  auto status = release::write_manifest(manifest, [&](std::string_view piece) {
    out += piece;
    return updagent::base::ok();
  });
  if (!status) return std::move(status).error();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto manifest = parse({reinterpret_cast<const char*>(data), size});
  if (!manifest) {
    must(!manifest.error().line().empty());
    must(manifest.error().exit() == updagent::base::Exit::refused);
    return 0;
  }
  const auto text = write(*manifest);
  must(text.has_value());
  const auto again = parse(*text);
  must(again.has_value());
  must(again->entries.size() == manifest->entries.size());
  must(*write(*again) == *text);
  return 0;
}
