#include "agent/release/placeholders.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::expect_error;

base::Result<std::string> expand(std::string_view text) {
  return expand_template(text, "here", Code::usage,
                         [](Placeholder what, const std::string& listener) {
                           std::string shown(placeholder_name(what));
                           if (!listener.empty()) shown += '=' + listener;
                           return std::optional<std::string>('<' + shown + '>');
                         });
}

TEST(Placeholders, Are_filled_in_wherever_they_stand) {
  EXPECT_EQ(expand("{data}/x/{version}{generation}").value(), "<data>/x/<version><generation>");
  EXPECT_EQ(expand("{release} {runtime_dir}").value(), "<release> <runtime_dir>");
  EXPECT_EQ(expand("{address:http}={fd:http}, {host:a.b-c}:{port:a.b-c}").value(),
            "<address=http>=<fd=http>, <host=a.b-c>:<port=a.b-c>");
  EXPECT_EQ(expand("").value(), "");
}

TEST(Placeholders, Braces_that_name_nothing_are_themselves) {
  for (const std::string_view text :
       {R"({"a":{"b":[1,2]}})", "{}", "{ data }", "{", "}", "a}b", "}}", "{1}", "{A}", "${A}"})
    EXPECT_EQ(expand(text).value(), text);
}

TEST(Placeholders, Two_opening_braces_are_one) {
  EXPECT_EQ(expand("{{data}").value(), "{data}");
  EXPECT_EQ(expand("{{{data}").value(), "{<data>");
  EXPECT_EQ(expand("{{{{x").value(), "{{x");
  EXPECT_EQ(expand("{{").value(), "{");
}

TEST(Placeholders, Names_that_are_none_are_refused) {
  expect_error(expand("a {relase}/x"), Code::usage,
               "here has a placeholder that is none (expected one of {release} {version} "
               "{generation} {runtime_dir} {data} {fd:NAME} {address:NAME} {host:NAME} "
               "{port:NAME}, or '{{' for a brace, got '{relase}')");
  EXPECT_EQ(expand("{relase}").error().hint(), "did you mean 'release'?");
  for (const std::string_view text :
       {"{x}", "{data", "{data:http}", "{fd}", "{data }", "{data{data}}", "{return 1}"})
    EXPECT_FALSE(expand(text)) << text;
}

TEST(Placeholders, Without_a_value_are_refused) {
  expect_error(expand_template("{fd:http}", "here", Code::internal,
                               [](Placeholder, const std::string&) -> std::optional<std::string> {
                                 return std::nullopt;
                               }),
               Code::internal,
               "here has a placeholder without a value (expected one that is known here, got 'fd' "
               "of listener 'http')");
}

TEST(Placeholders, An_escaped_text_expands_to_itself) {
  for (const std::string_view text : {"", "{data}", "{{data}}", R"({"a":1})", "{", "x{{{y"})
    EXPECT_EQ(expand(escape_template(text)).value(), text);
}

}  // namespace
}  // namespace updagent::release
