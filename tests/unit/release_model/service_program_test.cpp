// The program of a service, and the words that its keys are made of.
#include <gtest/gtest.h>

#include <csignal>

#include "agent/release/service_words.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::expect_error;
using testing::handoff_manifest;
using testing::parse;
using testing::write;

Manifest with_program(const std::string& program) {
  Manifest manifest = handoff_manifest();
  manifest.service->command = {program};
  EntryView executable = testing::file("bin/shop");
  executable.mode = 0755;
  EntryView hard = testing::hardlink("bin/shop2", "bin/shop");
  hard.mode = 0755;
  for (const EntryView& row :
       {testing::directory("bin"), testing::file("bin/data"), testing::symlink("bin/link", "shop"),
        testing::symlink("bin/none", "nowhere"), executable, hard, testing::symlink("cur", "bin")})
    EXPECT_OK(manifest.entries.add(row));
  return manifest;
}

base::Status ignore(std::string_view) {
  return base::ok();
}

TEST(Program, Comes_with_the_release_or_is_the_nodes) {
  for (const std::string program : {"bin/shop", "./bin/shop", "bin/shop2", "bin/link", "cur/shop",
                                    "bin/../cur/link", "/opt/none", "nginx"})
    EXPECT_OK(parse(write(with_program(program))));
}

TEST(Program, That_is_not_in_the_release_is_neither_written_nor_read) {
  for (const std::string program : {"bin/shop3", "bin/", "bin/shop/", "bin/none", "cur/x",
                                    "../bin/shop", "bin/../../x", "{release}/bin/shop"})
    expect_error(write_manifest(with_program(program), ignore), Code::manifest_invalid,
                 "service.command[0] is not valid (expected an executable file of the release, a "
                 "name without '/' or an absolute path, got '" +
                     program + "')");
  std::string text = write(with_program("bin/shop"));
  text.replace(text.find(R"(["bin/shop"])"), 12, R"(["bin/nope"])");
  expect_error(parse(text), Code::manifest_invalid,
               "manifest: service.command[0] is not valid (expected an executable file of the "
               "release, a name without '/' or an absolute path, got 'bin/nope')");
}

TEST(Program, That_can_not_be_executed_is_refused) {
  expect_error(write_manifest(with_program("bin/data"), ignore), Code::manifest_invalid,
               "service.command[0] is not valid (expected an executable file of the release, a "
               "name without '/' or an absolute path, got 'bin/data' of mode 0644)");
}

TEST(ServiceWords, Have_the_kernels_numbers) {
  EXPECT_EQ(capability_number("CAP_CHOWN"), 0);
  EXPECT_EQ(capability_number("CAP_NET_BIND_SERVICE"), 10);
  EXPECT_EQ(capability_number("CAP_BPF"), 39);
  EXPECT_EQ(capability_number("cap_chown"), std::nullopt);
  EXPECT_EQ(parse_signal("SIGQUIT"), 3);
  EXPECT_EQ(rlimit_resource("nofile"), 7);
  EXPECT_EQ(signal_name(9), "");
}

TEST(ServiceWords, Have_defaults_by_protocol) {
  EXPECT_EQ(default_ready(Protocol::systemd), Ready::notify);
  for (const Protocol other : {Protocol::nginx, Protocol::env, Protocol::inject})
    EXPECT_EQ(default_ready(other), Ready::listening);
  EXPECT_EQ(default_stop_signal(Protocol::nginx), SIGQUIT);
  EXPECT_EQ(default_stop_signal(Protocol::inject), SIGTERM);
}

}  // namespace
}  // namespace updagent::release
