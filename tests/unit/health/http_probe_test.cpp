#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {
namespace {

class HttpProbe : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ProbeServer(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  static release::Probe probe(const std::string& path) { return http_probe(server_->url(path)); }
  static std::string reason(const release::Probe& probe) { return prove_all({probe}).reason; }

  static ProbeServer* server_;
};
ProbeServer* HttpProbe::server_ = nullptr;

TEST_F(HttpProbe, A_200_is_healthy) {
  const Verdict verdict = prove_all({probe("/ok")});
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_EQ(verdict.results, 1U);
}

TEST_F(HttpProbe, Another_status_is_named_with_what_was_expected) {
  const Verdict verdict = prove_all({probe("/fail")});
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.probe, "p");
  EXPECT_EQ(verdict.reason, "probe 'p' failed: HTTP 503, expected 200-299");
}

TEST_F(HttpProbe, A_release_may_expect_other_statuses) {
  release::Probe unavailable = probe("/fail");
  unavailable.expect_status = {{204, 204}, {500, 503}};
  EXPECT_TRUE(prove_all({unavailable}).healthy);
  release::Probe fine = probe("/ok");
  fine.expect_status = {{204, 204}, {500, 503}};
  EXPECT_EQ(reason(fine), "probe 'p' failed: HTTP 200, expected 204, 500-503");
}

TEST_F(HttpProbe, A_redirect_is_a_status_and_is_not_followed) {
  EXPECT_EQ(reason(probe("/redirect")), "probe 'p' failed: HTTP 302, expected 200-299");
}

TEST_F(HttpProbe, The_body_must_hold_the_text) {
  release::Probe green = probe("/body");
  green.expect_body = "green";
  EXPECT_TRUE(prove_all({green}).healthy);
  green.expect_body = "red\x1b[0m";
  EXPECT_EQ(reason(green), "probe 'p' failed: body lacks 'red\\x1b[0m'");
}

TEST_F(HttpProbe, Of_an_endless_body_only_the_start_is_read) {
  release::Probe big = probe("/big");
  big.expect_body = "needle";
  EXPECT_TRUE(prove_all({big}).healthy);
  big.expect_body = "missing";
  EXPECT_EQ(reason(big), "probe 'p' failed: body lacks 'missing'");
}

TEST_F(HttpProbe, No_answer_in_time_is_a_failure) {
  release::Probe slow = probe("/slow");
  slow.timeout = base::Milliseconds(100);
  EXPECT_EQ(reason(slow), "probe 'p' failed: no answer within 100ms");
}

TEST_F(HttpProbe, A_connection_that_is_closed_without_an_answer_is_a_failure) {
  EXPECT_EQ(reason(probe("/drop")),
            "probe 'p' failed: the connection was closed without an answer");
}

TEST_F(HttpProbe, An_answer_that_is_cut_short_is_a_failure) {
  EXPECT_EQ(reason(probe("/short")), "probe 'p' failed: the answer was cut short");
}

TEST_F(HttpProbe, A_port_where_nobody_listens_refuses) {
  // port 1 is reserved (tcpmux) and served by nobody
  EXPECT_EQ(reason(http_probe("http://127.0.0.1:1/")), "probe 'p' failed: connection refused");
}

TEST_F(HttpProbe, Other_schemes_are_not_asked) {
  EXPECT_FALSE(prove_all({http_probe("file:///etc/passwd")}).healthy);
}

TEST_F(HttpProbe, The_proxy_of_the_environment_is_not_asked) {
  ::setenv("http_proxy", "http://127.0.0.1:1", 1);
  const Verdict verdict = prove_all({probe("/ok")});
  ::unsetenv("http_proxy");
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
}

TEST_F(HttpProbe, Each_question_has_a_connection_of_its_own) {
  const ProbeServer fresh;
  release::Probe five = http_probe(fresh.url("/connections"));
  five.successes = 5;
  const Verdict verdict = prove_all({five});
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
}

TEST(HttpsProbe, The_certificate_must_be_trusted) {
  std::string directory = std::filesystem::temp_directory_path() / "updagent-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string certificate = directory + "/certificate.pem";
  const std::string key = directory + "/key.pem";
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test"
      " -addext subjectAltName=IP:127.0.0.1 -keyout " +
      key + " -out " + certificate + " 2>/dev/null";
  ASSERT_EQ(::system(command.c_str()), 0);
  {
    const ProbeServer server({"--certificate", certificate, "--key", key});
    const release::Probe probe = http_probe("https://127.0.0.1:" + server.port() + "/ok");
    ProbeContext context;
    context.ca_file = certificate;
    const Verdict trusted = prove_all({probe}, context);
    EXPECT_TRUE(trusted.healthy) << trusted.reason;
    const Verdict unknown = prove_all({probe});
    EXPECT_FALSE(unknown.healthy);
    EXPECT_NE(unknown.reason.find("certificate"), std::string::npos) << unknown.reason;
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace updagent::health
