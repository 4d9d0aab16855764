#include "agent/listen/address.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <ostream>

#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;

Address dual(const std::string& text) {
  Address address = parse(text);
  address.v6only = false;
  return address;
}

TEST(AddressTest, Each_form_is_printed_as_it_was_written) {
  for (const std::string text :
       {"tcp:127.0.0.1:8080", "tcp:0.0.0.0:80", "tcp:[::]:443", "tcp:[fd00::1]:1", "udp:[::1]:53",
        "udp:10.0.0.1:65535", "unix:/run/shop/http.sock", "unix:@shop", "tcp:127.0.0.1:0"})
    EXPECT_EQ(parse(text).text(), text);
  EXPECT_EQ(parse("tcp:[0:0::0:1]:1").text(), "tcp:[::1]:1");
  EXPECT_EQ(parse("tcp:[::ffff:1.2.3.4]:80").text(), "tcp:1.2.3.4:80");
}

struct Bad {
  std::string text;
  std::string why;
};
void PrintTo(const Bad& bad, std::ostream* out) {  // NOLINT: gtest's name
  *out << bad.text;
}

class BadAddressTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadAddressTest, Is_refused_with_the_reason) {
  const auto address =
      parse_address(GetParam().text, "listener[0].address", base::Code::manifest_invalid);
  ASSERT_FALSE(address) << address->text();
  EXPECT_EQ(address.error().code(), base::Code::manifest_invalid);
  EXPECT_NE(address.error().message().find(GetParam().why), std::string::npos)
      << address.error().line();
  EXPECT_TRUE(address.error().message().starts_with("listener[0].address"));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadAddressTest,
    ::testing::Values(Bad{"", "does not begin"}, Bad{"8080", "does not begin"},
                      Bad{"http:127.0.0.1:80", "does not begin"}, Bad{"tcp:", "no port"},
                      Bad{"tcp:127.0.0.1", "no port"}, Bad{"tcp:localhost:80", "names are not"},
                      Bad{"tcp:*:80", "not clear"}, Bad{"tcp::80", "names are not"},
                      Bad{"tcp:127.0.0.1:65536", "port"}, Bad{"tcp:127.0.0.1:-1", "port"},
                      Bad{"tcp:127.0.0.1:080808", "port"}, Bad{"tcp:127.0.0.1:80x", "port"},
                      Bad{"tcp:127.1:80", "names are not"}, Bad{"tcp:::1:80", "brackets"},
                      Bad{"tcp:[::1:80", "no port"}, Bad{"tcp:[]:80", "not an IPv6"},
                      Bad{"tcp:[1.2.3.4]:80", "not an IPv6"},
                      Bad{"tcp:[fe80::1%nosuchif0]:80", "not an IPv6"},
                      Bad{"unix:run/x.sock", "not absolute"}, Bad{"unix:", "not absolute"},
                      Bad{"unix:/run/", "directory"}, Bad{"unix:@", "empty"},
                      Bad{"unix:/" + std::string(107, 'x'), "longer than 107"},
                      Bad{std::string("unix:/a\0b", 9), "byte 0"},
                      Bad{std::string("tcp:1.2.3.4\0:80", 15), "byte 0"}));

TEST(AddressTest, A_link_local_address_keeps_its_interface) {
  const Address address = parse("tcp:[fe80::1%lo]:80");
  EXPECT_NE(address.scope, 0U);
  EXPECT_EQ(parse(address.text()), address);
}

TEST(AddressTest, A_bound_socket_says_its_own_address) {
  for (const std::string text : {"tcp:127.0.0.1:0", "udp:[::1]:0", "unix:@listen-address-test"}) {
    const Address wanted = parse(text);
    const base::UniqueFd fd(
        ::socket(wanted.family, wanted.transport == Transport::udp ? SOCK_DGRAM : SOCK_STREAM, 0));
    ASSERT_TRUE(fd) << text;
    const int one = 1;
    if (wanted.family == AF_INET6)
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    const SocketAddress raw = to_sockaddr(wanted);
    ASSERT_EQ(::bind(fd.get(), raw.get(), raw.length), 0) << text;
    Address bound = must(address_of_socket(fd.get()));
    EXPECT_EQ(bound.port != 0, wanted.is_inet());
    bound.port = 0;
    EXPECT_EQ(bound, wanted) << bound.text();
  }
}

TEST(AddressTest, Containment_counts_wildcards_and_dual_stack) {
  const Address any4 = parse("tcp:0.0.0.0:80");
  const Address any6 = parse("tcp:[::]:80");
  const Address both = dual("tcp:[::]:80");
  const Address one4 = parse("tcp:10.0.0.1:80");
  const Address one6 = parse("tcp:[fd00::1]:80");
  EXPECT_TRUE(contains(any4, one4));
  EXPECT_TRUE(contains(one4, one4));
  EXPECT_FALSE(contains(one4, any4));
  EXPECT_FALSE(contains(any4, one6));
  EXPECT_FALSE(contains(any6, one4));
  EXPECT_TRUE(contains(any6, one6));
  EXPECT_TRUE(contains(both, one4));
  EXPECT_TRUE(contains(both, any4));
  EXPECT_TRUE(contains(both, any6));
  EXPECT_FALSE(contains(any6, both));
  EXPECT_FALSE(contains(any4, parse("tcp:10.0.0.1:81")));
  EXPECT_FALSE(contains(any4, parse("udp:10.0.0.1:80")));
  EXPECT_TRUE(contains(parse("unix:/a"), parse("unix:/a")));
  EXPECT_FALSE(contains(parse("unix:/a"), parse("unix:@/a")));
}

TEST(AddressTest, Two_addresses_overlap_when_one_packet_can_reach_both) {
  EXPECT_TRUE(overlaps(parse("tcp:10.0.0.1:80"), parse("tcp:0.0.0.0:80")));
  EXPECT_TRUE(overlaps(dual("tcp:[::]:80"), parse("tcp:0.0.0.0:80")));
  EXPECT_TRUE(overlaps(parse("tcp:10.0.0.1:80"), dual("tcp:[::]:80")));
  EXPECT_FALSE(overlaps(parse("tcp:[::]:80"), parse("tcp:0.0.0.0:80")));
  EXPECT_FALSE(overlaps(parse("tcp:10.0.0.1:80"), parse("tcp:10.0.0.2:80")));
  EXPECT_FALSE(overlaps(parse("tcp:[fd00::1]:80"), parse("tcp:0.0.0.0:80")));
}

TEST(AddressTest, A_wildcard_is_reached_at_the_loopback_address) {
  EXPECT_EQ(reachable_address(parse("tcp:0.0.0.0:80")), parse("tcp:127.0.0.1:80"));
  EXPECT_EQ(reachable_address(parse("tcp:[::]:80")), parse("tcp:[::1]:80"));
  Address dual = parse("tcp:[::]:80");
  dual.v6only = false;
  EXPECT_EQ(reachable_address(dual), parse("tcp:127.0.0.1:80"));
  EXPECT_EQ(reachable_address(parse("tcp:10.0.0.1:80")), parse("tcp:10.0.0.1:80"));
  EXPECT_EQ(reachable_address(parse("unix:/run/x.sock")), parse("unix:/run/x.sock"));
}

}  // namespace
}  // namespace updagent::listen
