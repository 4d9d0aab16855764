#include "agent/launch/inject_match.hpp"

#include <gtest/gtest.h>

#include "agent/launch/inject_options.hpp"
#include "tests/unit/launch/inject_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;

InjectListener listener(const Name& at, int type = SOCK_STREAM, bool v6only = false) {
  InjectListener out;
  out.name = "http";
  out.address = at.storage;
  out.address_length = at.length;
  out.type = type;
  out.v6only = v6only;
  return out;
}

AskedBind asked(const Name& at, int type = SOCK_STREAM, bool v6only = false) {
  AskedBind out;
  out.address = at.storage;
  out.address_length = at.length;
  out.domain = at.storage.ss_family;
  out.type = type;
  out.v6only = v6only;
  return out;
}

Fit fit(const AskedBind& what, const std::vector<InjectListener>& listeners) {
  const std::vector<std::string> none(listeners.size());
  return match_bind(what, listeners, none).fit;
}

std::size_t chosen(const AskedBind& what, const std::vector<InjectListener>& listeners) {
  const std::vector<std::string> none(listeners.size());
  const BindMatch match = match_bind(what, listeners, none);
  return match.fit == Fit::ours ? match.listener : 99;
}

TEST(InjectMatch, The_same_address_is_ours_and_another_port_or_type_is_not) {
  const std::vector<InjectListener> one = {listener(in_name("127.0.0.1", 80))};
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 80)), one), Fit::ours);
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 81)), one), Fit::none);
  EXPECT_EQ(fit(asked(in_name("127.0.0.2", 80)), one), Fit::none);
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 80), SOCK_DGRAM), one), Fit::none);
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 0)), one), Fit::none);
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 53), SOCK_DGRAM),
                {listener(in_name("127.0.0.1", 53), SOCK_DGRAM)}),
            Fit::ours);
}

TEST(InjectMatch, A_wildcard_is_given_the_one_address_that_the_manifest_has) {
  EXPECT_EQ(fit(asked(in_name("0.0.0.0", 80)), {listener(in_name("10.0.0.1", 80))}), Fit::ours);
  EXPECT_EQ(fit(asked(in6_name("::", 80)), {listener(in_name("10.0.0.1", 80))}), Fit::ours);
  EXPECT_EQ(fit(asked(in6_name("::", 80)), {listener(in6_name("2001:db8::1", 80))}), Fit::ours);
  EXPECT_EQ(fit(asked(in6_name("::", 80), SOCK_STREAM, true), {listener(in_name("10.0.0.1", 80))}),
            Fit::none)
      << "for IPv6 alone";
  EXPECT_EQ(fit(asked(in_name("0.0.0.0", 80)),
                {listener(in_name("10.0.0.1", 80)), listener(in_name("10.0.0.2", 80))}),
            Fit::divided);
}

TEST(InjectMatch, One_address_is_never_given_a_wildcard) {
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 80)), {listener(in_name("0.0.0.0", 80))}),
            Fit::too_open);
  EXPECT_EQ(fit(asked(in_name("127.0.0.1", 80)), {listener(in6_name("::", 80))}), Fit::too_open);
  EXPECT_EQ(fit(asked(in6_name("::1", 80)), {listener(in6_name("::", 80))}), Fit::too_open);
  EXPECT_EQ(fit(asked(in6_name("::1", 80)), {listener(in_name("0.0.0.0", 80))}), Fit::none);
}

TEST(InjectMatch, Wildcards_of_both_families_find_each_other) {
  const InjectListener v4 = listener(in_name("0.0.0.0", 80));
  const InjectListener v6 = listener(in6_name("::", 80), SOCK_STREAM, true);
  const InjectListener both = listener(in6_name("::", 80));
  const AskedBind asks_v4 = asked(in_name("0.0.0.0", 80));
  const AskedBind asks_v6 = asked(in6_name("::", 80), SOCK_STREAM, true);
  const AskedBind asks_both = asked(in6_name("::", 80));
  EXPECT_EQ(chosen(asks_v4, {v6, v4}), 1U);
  EXPECT_EQ(chosen(asks_v6, {v4, v6}), 1U);
  EXPECT_EQ(chosen(asks_v4, {both}), 0U);
  EXPECT_EQ(chosen(asks_v6, {both}), 0U);
  EXPECT_EQ(chosen(asks_both, {both}), 0U);
  EXPECT_EQ(chosen(asks_both, {v4}), 0U) << "the server gets what there is";
  EXPECT_EQ(fit(asks_both, {v4, v6}), Fit::divided);
  EXPECT_EQ(fit(asks_v6, {v4}), Fit::none);
  EXPECT_EQ(chosen(asks_v4, {listener(in_name("10.0.0.1", 80)), both}), 1U)
      << "everybody is nearer to everybody than one address is";
}

TEST(InjectMatch, An_IPv4_address_may_be_written_as_IPv6) {
  EXPECT_EQ(fit(asked(in6_name("::ffff:10.0.0.1", 80)), {listener(in_name("10.0.0.1", 80))}),
            Fit::ours);
  EXPECT_EQ(fit(asked(in_name("10.0.0.1", 80)), {listener(in6_name("::ffff:10.0.0.1", 80))}),
            Fit::ours);
  EXPECT_EQ(fit(asked(in6_name("::ffff:0.0.0.0", 80)), {listener(in_name("0.0.0.0", 80))}),
            Fit::ours);
}

TEST(InjectMatch, A_link_local_address_is_one_of_its_interface) {
  Name one = in6_name("fe80::1", 80);
  Name other = one;
  reinterpret_cast<sockaddr_in6&>(one.storage).sin6_scope_id = 2;
  reinterpret_cast<sockaddr_in6&>(other.storage).sin6_scope_id = 3;
  EXPECT_EQ(fit(asked(one), {listener(one)}), Fit::ours);
  EXPECT_EQ(fit(asked(one), {listener(other)}), Fit::none);
}

TEST(InjectMatch, A_family_that_does_not_belong_to_the_socket_is_left_to_the_kernel) {
  const std::vector<InjectListener> one = {listener(in_name("0.0.0.0", 80))};
  AskedBind wrong = asked(in_name("0.0.0.0", 80));
  wrong.domain = AF_INET6;
  EXPECT_EQ(fit(wrong, one), Fit::none);
  AskedBind old = asked(in_name("0.0.0.0", 80));
  old.address.ss_family = AF_UNSPEC;
  EXPECT_EQ(fit(old, one), Fit::ours) << "the kernel takes that for AF_INET";
  AskedBind cut = asked(in_name("0.0.0.0", 80));
  cut.address_length = 8;
  EXPECT_EQ(fit(cut, one), Fit::none);
}

TEST(InjectMatch, Multipath_TCP_is_TCP_and_other_protocols_are_not) {
  const std::vector<InjectListener> one = {listener(in_name("0.0.0.0", 80))};
  for (const auto& [protocol, expected] :
       {std::pair{262, Fit::ours}, {6, Fit::ours}, {132, Fit::none}}) {
    AskedBind what = asked(in_name("0.0.0.0", 80));
    what.protocol = protocol;
    EXPECT_EQ(fit(what, one), expected) << protocol;
  }
}

TEST(InjectMatch, Unix_names_are_compared_as_the_kernel_does) {
  const std::vector<InjectListener> listeners = {listener(unix_name_of("/run/a.sock")),
                                                 listener(unix_name_of("@abstract"))};
  EXPECT_EQ(chosen(asked(unix_name_of("/run/a.sock")), listeners), 0U);
  Name whole = unix_name_of("/run/a.sock");  // many servers pass the whole structure
  whole.length = sizeof(sockaddr_un);
  EXPECT_EQ(chosen(asked(whole), listeners), 0U);
  EXPECT_EQ(chosen(asked(unix_name_of("@abstract")), listeners), 1U);
  Name longer = unix_name_of("@abstract");
  longer.length += 1;  // a zero byte more is another name
  EXPECT_EQ(fit(asked(longer), listeners), Fit::none);
  Name chosen_by_kernel = unix_name_of("@");
  chosen_by_kernel.length = sizeof(sa_family_t);
  EXPECT_EQ(fit(asked(chosen_by_kernel), listeners), Fit::none);
  AskedBind canonical = asked(unix_name_of("/var/run/a.sock"));
  canonical.canonical_path = "/run/a.sock";
  const std::vector<std::string> paths = {"/run/a.sock", ""};
  EXPECT_EQ(match_bind(canonical, listeners, paths).fit, Fit::ours);
}

TEST(InjectMatch, Addresses_are_written_as_in_the_manifest) {
  const auto text = [](const Name& name, int type = SOCK_STREAM) {
    return bind_text(name.storage, name.length, type);
  };
  EXPECT_EQ(text(in_name("0.0.0.0", 8080)), "tcp:0.0.0.0:8080");
  EXPECT_EQ(text(in6_name("::1", 53), SOCK_DGRAM), "udp:[::1]:53");
  EXPECT_EQ(text(in6_name("::", 80)), "tcp:[::]:80");
  EXPECT_EQ(text(in6_name("::ffff:1.2.3.4", 80)), "tcp:1.2.3.4:80");
  EXPECT_EQ(text(unix_name_of("/run/a\x1b.sock")), "unix:/run/a\\x1b.sock");
  EXPECT_EQ(text(unix_name_of("@shop")), "unix:@shop");
  Name netlink;
  netlink.storage.ss_family = AF_NETLINK;
  netlink.length = 12;
  EXPECT_EQ(text(netlink), "");
}

TEST(InjectOptions, Every_row_can_be_read_from_a_socket_of_some_kind) {
  const std::vector<UniqueFd> kinds = [] {
    std::vector<UniqueFd> out;
    for (const auto& [domain, type] : {std::pair{AF_INET, SOCK_STREAM},
                                       {AF_INET6, SOCK_STREAM},
                                       {AF_INET, SOCK_DGRAM},
                                       {AF_UNIX, SOCK_STREAM}})
      out.push_back(new_socket(domain, type));
    return out;
  }();
  for (const OptionRow& row : option_table()) {
    bool known = false;
    for (const UniqueFd& kind : kinds) {
      std::array<char, kMaxOptionBytes> bytes{};
      socklen_t size = row.size;
      known = known || ::getsockopt(kind.get(), row.level, row.option, bytes.data(), &size) == 0;
    }
    EXPECT_TRUE(known) << row.name << ": or this kernel is older than it";
    EXPECT_EQ(row.rule == OptionRule::copy || row.rule == OptionRule::copy_buffer,
              std::string_view(row.reason).empty())
        << row.name << ": what isn't copied says why";
  }
}

TEST(InjectOptions, Only_what_the_server_changed_is_set) {
  const UniqueFd server = new_socket();
  const UniqueFd listener_socket = new_socket();
  set_option(listener_socket.get(), SOL_SOCKET, SO_OOBINLINE, 1);
  set_option(server.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(server.get(), SOL_SOCKET, SO_MARK, 42);  // may need a privilege
  OptionCopy copy;
  ASSERT_TRUE(copy.read(server.get()));
  OptionOutcomes outcomes{};
  copy.apply(listener_socket.get(), outcomes);
  EXPECT_EQ(option_of(listener_socket.get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of(listener_socket.get(), SOL_SOCKET, SO_OOBINLINE), 1);
  EXPECT_EQ(option_of(listener_socket.get(), SOL_SOCKET, SO_MARK),
            option_of(server.get(), SOL_SOCKET, SO_MARK));
}

TEST(InjectOptions, A_filter_of_the_server_is_named) {
  sock_filter accept_all = BPF_STMT(BPF_RET | BPF_K, 0xFFFF);
  const sock_fprog program{1, &accept_all};
  const UniqueFd server = new_socket();
  ASSERT_EQ(::setsockopt(server.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
  OptionCopy copy;
  ASSERT_TRUE(copy.read(server.get()));
  OptionOutcomes outcomes{};
  const UniqueFd listener_socket = new_socket();
  copy.apply(listener_socket.get(), outcomes);
  const auto rows = option_table();
  std::string kept;
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (outcomes[i] == OptionOutcome::kept) kept += rows[i].name;
  EXPECT_EQ(kept, "SO_ATTACH_FILTER");
}

}  // namespace
