#include "agent/release/listen_address.hpp"

#include <gtest/gtest.h>

#include "agent/release/service.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;

base::Result<ListenAddress> parse(std::string_view text) {
  return parse_listen_address(text, "here", Code::usage);
}

TEST(ListenAddress, Of_every_kind_is_read_and_written_the_same) {
  for (const std::string_view text :
       {"tcp:127.0.0.1:1", "tcp:0.0.0.0:65535", "tcp:[::]:80", "tcp:[::1]:8080",
        "tcp:[2001:db8::1]:443", "tcp:[fe80::1]:1", "udp:0.0.0.0:443", "udp:[::]:443",
        "unix:/run/shop/http.sock", "unix:/s", "unix:/run/..shop/a:b", "unix:@shop", "unix:@/tmp/x",
        "unix:@a@b"}) {
    const auto address = parse(text);
    ASSERT_TRUE(address) << address.error().line();
    EXPECT_EQ(address->text(), text);
  }
}

TEST(ListenAddress, Has_its_parts) {
  const auto v6 = parse("tcp:[::1]:8080").value();
  EXPECT_EQ(v6.kind, AddressKind::tcp);
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.port, 8080);
  EXPECT_TRUE(v6.is_v6() && v6.is_stream() && !v6.is_unix());
  EXPECT_EQ(v6.text_without_kind(), "[::1]:8080");
  const auto udp = parse("udp:10.0.0.1:53").value();
  EXPECT_FALSE(udp.is_stream() || udp.is_v6());
  const auto path = parse("unix:/run/a").value();
  EXPECT_EQ(path.kind, AddressKind::unix_path);
  EXPECT_EQ(path.path, "/run/a");
  EXPECT_TRUE(path.is_stream() && path.is_unix() && !path.is_v6());
  const auto name = parse("unix:@a").value();
  EXPECT_EQ(name.kind, AddressKind::unix_abstract);
  EXPECT_EQ(name.path, "a");
  EXPECT_EQ(name.text_without_kind(), "@a");
}

TEST(ListenAddress, That_is_none_is_refused) {
  for (const std::string_view text : {"",
                                      "tcp",
                                      "tcp:",
                                      ":80",
                                      "80",
                                      "127.0.0.1:80",
                                      "TCP:127.0.0.1:80",
                                      "sctp:127.0.0.1:80",
                                      "tcp:127.0.0.1",
                                      "tcp:127.0.0.1:",
                                      "tcp:127.0.0.1:0",
                                      "tcp:127.0.0.1:65536",
                                      "tcp:127.0.0.1:080",
                                      "tcp:127.0.0.1:+80",
                                      "tcp:127.0.0.1:80 ",
                                      "tcp: 127.0.0.1:80",
                                      "tcp:127.0.0.1:8080:1",
                                      "tcp:localhost:80",
                                      "tcp:*:80",
                                      "tcp::80",
                                      "tcp:[]:80",
                                      "tcp:[*]:80",
                                      "tcp:127.1:80",
                                      "tcp:0127.0.0.1:80",
                                      "tcp:256.0.0.1:80",
                                      "tcp:::1:80",
                                      "tcp:[::1]80",
                                      "tcp:[::1:80",
                                      "tcp:::1]:80",
                                      "tcp:[127.0.0.1]:80",
                                      "tcp:[fe80::1%eth0]:80",
                                      "tcp:[::ffff:127.0.0.1]:80",
                                      "tcp:127.0.0.1:80-90",
                                      "unix:",
                                      "unix:run/x",
                                      "unix:/",
                                      "unix:/run/",
                                      "unix://run",
                                      "unix:/run//x",
                                      "unix:/run/./x",
                                      "unix:/run/../x",
                                      "unix:/..",
                                      "unix:/run/x y",
                                      "unix:/run/*",
                                      "unix:/run/\xC3\xBC",
                                      "unix:/run/x\n",
                                      "unix:@",
                                      "unix:@a b",
                                      "unix:@a*"}) {
    const auto address = parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code(), Code::usage);
    EXPECT_EQ(address.error().expected(),
              "tcp:HOST:PORT or udp:HOST:PORT with a numeric HOST ([V6] in brackets), unix:/PATH "
              "or unix:@NAME");
  }
  for (const std::string_view text :
       {std::string_view("tcp:127.0.0.1\0:80", 17), std::string_view("tcp:[::1\0]:80", 13),
        std::string_view("unix:/a\0b", 9), std::string_view("unix:@\0", 7)})
    EXPECT_FALSE(parse(text));
}

TEST(ListenAddress, In_another_spelling_is_refused_naming_the_one_that_is_taken) {
  for (const auto& [text, spelling] : {std::pair("tcp:[0:0:0:0:0:0:0:0]:80", "tcp:[::]:80"),
                                       {"udp:[2001:DB8:0::1]:80", "udp:[2001:db8::1]:80"},
                                       {"tcp:[::0001]:80", "tcp:[::1]:80"}})
    testing::expect_error(parse(text), Code::usage,
                          std::string("here is not valid (expected '") + spelling +
                              "', the same in its one spelling, got '" + text + "')");
}

TEST(ListenAddress, Leaves_room_in_a_unix_path_for_a_generations_own) {
  EXPECT_TRUE(parse("unix:/" + std::string(kMaxUnixPathBytes - 1, 'a')));
  EXPECT_FALSE(parse("unix:/" + std::string(kMaxUnixPathBytes, 'a')));
  EXPECT_TRUE(parse("unix:@" + std::string(kMaxUnixPathBytes - 1, 'a')));
  EXPECT_FALSE(parse("unix:@" + std::string(kMaxUnixPathBytes, 'a')));
}

bool matches(std::string_view pattern, std::string_view address) {
  const auto parsed = parse_address_pattern(pattern);
  EXPECT_TRUE(parsed) << pattern;
  return parsed && parsed->matches(parse(address).value());
}

TEST(AddressPattern, Of_a_port_takes_every_host_of_both_families) {
  EXPECT_TRUE(matches("tcp:*:8080", "tcp:0.0.0.0:8080"));
  EXPECT_TRUE(matches("tcp:*:8080", "tcp:[::1]:8080"));
  EXPECT_FALSE(matches("tcp:*:8080", "tcp:0.0.0.0:8081"));
  EXPECT_FALSE(matches("tcp:*:8080", "udp:0.0.0.0:8080"));
  EXPECT_TRUE(matches("udp:*:*", "udp:[::]:1"));
  EXPECT_FALSE(matches("udp:*:*", "tcp:[::]:1"));
}

TEST(AddressPattern, Of_a_range_takes_both_ends) {
  for (const auto& [port, taken] : {std::pair("1023", false), {"1024", true}, {"65535", true}})
    EXPECT_EQ(matches("tcp:*:1024-65535", std::string("tcp:0.0.0.0:") + port), taken) << port;
}

TEST(AddressPattern, Of_a_host_takes_that_one_alone) {
  EXPECT_TRUE(matches("tcp:127.0.0.1:*", "tcp:127.0.0.1:22"));
  EXPECT_FALSE(matches("tcp:127.0.0.1:*", "tcp:0.0.0.0:22"));
  EXPECT_FALSE(matches("tcp:127.0.0.1:*", "tcp:127.0.0.2:22"));
  EXPECT_TRUE(matches("tcp:[::1]:*", "tcp:[::1]:22"));
  EXPECT_TRUE(matches("tcp:[0::1]:*", "tcp:[::1]:22"));
  EXPECT_FALSE(matches("tcp:[::]:*", "tcp:[::1]:22"));
}

TEST(AddressPattern, Of_a_folder_takes_what_is_below_it) {
  EXPECT_TRUE(matches("unix:/run/shop/*", "unix:/run/shop/http"));
  EXPECT_TRUE(matches("unix:/run/shop/*", "unix:/run/shop/a/b"));
  EXPECT_FALSE(matches("unix:/run/shop/*", "unix:/run/shop"));
  EXPECT_FALSE(matches("unix:/run/shop/*", "unix:/run/shop2/http"));
  EXPECT_FALSE(matches("unix:/run/shop/*", "unix:@/run/shop/http"));
  EXPECT_TRUE(matches("unix:/*", "unix:/a/b"));
  EXPECT_FALSE(matches("unix:/*", "unix:@a"));
  EXPECT_TRUE(matches("unix:/run/shop.sock", "unix:/run/shop.sock"));
  EXPECT_FALSE(matches("unix:/run/shop.sock", "unix:/run/shop.sock2"));
}

TEST(AddressPattern, Of_abstract_names_takes_those_that_begin_so) {
  EXPECT_TRUE(matches("unix:@shop*", "unix:@shop"));
  EXPECT_TRUE(matches("unix:@shop*", "unix:@shop-http"));
  EXPECT_FALSE(matches("unix:@shop*", "unix:@sho"));
  EXPECT_FALSE(matches("unix:@shop", "unix:@shop-http"));
  EXPECT_TRUE(matches("unix:@*", "unix:@x"));
  EXPECT_FALSE(matches("unix:@*", "unix:/x"));
}

TEST(AddressPattern, That_is_none_is_refused) {
  for (const std::string_view text : {"",
                                      "*",
                                      "tcp:*",
                                      "tcp:*:",
                                      "tcp:*:0",
                                      "tcp:*:0-10",
                                      "tcp:*:10-0",
                                      "tcp:*:10-9",
                                      "tcp:*:1-65536",
                                      "tcp:*:1-",
                                      "tcp:*:-1",
                                      "tcp:*:1-2-3",
                                      "tcp:[*]:1",
                                      "tcp:127.0.0.*:1",
                                      "tcp:10.0.0.0/8:80",
                                      "tcp:localhost:80",
                                      "tcp:*:**",
                                      "unix:*",
                                      "unix:/run/sh*",
                                      "unix:/run/*/x",
                                      "unix:run/*",
                                      "unix:/run/../*",
                                      "unix://*",
                                      "unix:/run/**",
                                      "unix:@a*b",
                                      "unix:@a b*",
                                      "sctp:*:1"})
    EXPECT_FALSE(parse_address_pattern(text)) << text;
}

}  // namespace
}  // namespace updagent::release
