// What the tests of the release model share: a sample of everything, and both ways between text and
// value.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "agent/base/byte_source.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release::testing {

// Gives at most `chunk` bytes a call, then the error if there is one.
class TextSource : public base::ByteSource {
 public:
  explicit TextSource(std::string text, std::size_t chunk = 4096)
      : text_(std::move(text)), chunk_(chunk) {}
  base::Result<std::size_t> read(std::span<std::uint8_t> into) override;
  void fail_at_the_end(base::Error error) { error_ = std::move(error); }

 private:
  std::string text_;
  std::size_t chunk_;
  std::size_t at_ = 0;
  std::optional<base::Error> error_;
};

base::Result<Manifest> parse(const std::string& text);
// What write_manifest writes; a failed expectation if it doesn't.
std::string write(const Manifest& manifest);

EntryView file(std::string_view path, std::uint64_t size = 1);
EntryView directory(std::string_view path);
EntryView symlink(std::string_view path, std::string_view target);
EntryView hardlink(std::string_view path, std::string_view target);

// App shop 1.4.2 without a section or an entry.
Manifest small_manifest();
// Everything that a manifest can carry.
Manifest full_manifest();
// A handoff of one listener, with nothing that has a default.
Manifest handoff_manifest();
// With steps, a preflight, a worker, and a gate of each type.
Manifest rollout_manifest();
// Everything that a service can carry.
Service full_service();
Manifest full_handoff_manifest();
// The text of small_manifest() with `rows` as its entries.
std::string text_with_entries(std::string_view rows);
// The text of small_manifest() with `key_and_value` ("\"hooks\":{}") added.
std::string text_with(std::string_view key_and_value);

// Success, or the error's line in the failure message.
#define EXPECT_OK(expression)                                         \
  do {                                                                \
    const auto expect_ok_result = (expression);                       \
    EXPECT_TRUE(expect_ok_result.has_value())                         \
        << (expect_ok_result ? "" : expect_ok_result.error().line()); \
  } while (false)

template <class T>
void expect_error(const base::Result<T>& result, base::Code code, std::string_view line) {
  ASSERT_FALSE(result.has_value()) << "accepted, should be: " << line;
  EXPECT_EQ(result.error().code_name(), base::info(code).name);
  EXPECT_EQ(result.error().line(), line);
}

}  // namespace updagent::release::testing
