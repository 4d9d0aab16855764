// https: trust in the server, a certificate of our own, and what a redirect may do.
#include <gtest/gtest.h>

#include <cstdlib>

#include "agent/fetch/post.hpp"
#include "tests/unit/fetch/fetch_fixture.hpp"

namespace updagent::fetch::test {
namespace {

// A CA, a server certificate for 127.0.0.1 and 127.0.0.2, a client certificate; made once.
class Certificates {
 public:
  Certificates() {
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca "
        "-keyout ca.key -out ca.pem");
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
        "/CN=other "
        "-keyout other.key -out other.pem");
    issue("server", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2");
    issue("client", "extendedKeyUsage=clientAuth");
  }
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

 private:
  void run(const std::string& command) const {
    const std::string quiet = "cd " + directory_.path() + " && " + command + " >/dev/null 2>&1";
    if (std::system(quiet.c_str()) != 0) std::abort();
  }
  void issue(const std::string& name, const std::string& extension) const {
    directory_.write("ext", extension + "\n");
    run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + name +
        " -keyout " + name + ".key -out " + name + ".csr");
    run("openssl x509 -req -in " + name + ".csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 " +
        "-extfile ext -out " + name + ".pem");
  }
  TemporaryDirectory directory_;
};

class TlsFetch : public FetchTest {
 protected:
  static void SetUpTestSuite() { certificates_ = new Certificates; }
  static void TearDownTestSuite() {
    delete certificates_;
    certificates_ = nullptr;
  }
  static std::string server(const std::string& more = "") {
    return "ssl_certificate " + certificates_->path("server.pem") + "; ssl_certificate_key " +
           certificates_->path("server.key") + ";" + more;
  }
  static std::string asks_for_certificate() {
    return "ssl_verify_client optional; ssl_client_certificate " + certificates_->path("ca.pem") +
           "; add_header X-Verify $ssl_client_verify; if ($ssl_client_verify != SUCCESS) { return "
           "403; }";
  }
  Request trusting(const std::string& url) {
    Request out = request(url);
    out.credentials.ca_file = certificates_->path("ca.pem");
    return out;
  }
  static Certificates* certificates_;
};
Certificates* TlsFetch::certificates_ = nullptr;

TEST_F(TlsFetch, A_server_of_the_given_ca_is_trusted_and_spoken_to_in_http_2) {
  Nginx nginx(server(), "ssl http2");
  nginx.publish("file", "content");
  EXPECT_EQ(fetched(trusting(nginx.url("file", "https"))), "content");
  nginx.stop();
  ASSERT_EQ(nginx.log().size(), 1U);
  EXPECT_NE(nginx.log()[0].find("|HTTP/2.0|"), std::string::npos) << nginx.log()[0];
}

TEST_F(TlsFetch, An_unknown_ca_is_final) {
  Nginx nginx(server(), "ssl");
  nginx.publish("file", "content");
  for (const bool own_ca : {false, true}) {
    Request wanted = request(nginx.url("file", "https"));
    if (own_ca) wanted.credentials.ca_file = certificates_->path("other.pem");
    const auto result = fetch(wanted);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), base::Code::fetch_failed);
    EXPECT_NE(result.error().hint().find("ca_file"), std::string::npos) << result.error().line();
  }
  nginx.stop();
  EXPECT_TRUE(nginx.log().empty());
}

TEST_F(TlsFetch, A_client_certificate_is_shown_to_who_asks) {
  Nginx nginx(server(asks_for_certificate()), "ssl");
  nginx.publish("file", "content");
  Request wanted = trusting(nginx.url("file", "https"));
  EXPECT_FALSE(fetch(wanted));
  wanted.credentials.client_certificate = certificates_->path("client.pem");
  wanted.credentials.client_key = certificates_->path("client.key");
  EXPECT_EQ(fetched(wanted), "content");
}

TEST_F(TlsFetch, A_client_certificate_is_not_shown_to_another_host) {
  Nginx other(server(asks_for_certificate()), "ssl", "127.0.0.2");
  other.publish("file", "content");
  Nginx first(server("return 302 " + other.url("file", "https") + ";"), "ssl");
  Request wanted = trusting(first.url("start", "https"));
  wanted.credentials.client_certificate = certificates_->path("client.pem");
  wanted.credentials.client_key = certificates_->path("client.key");
  const auto result = fetch(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "HTTP 403");
}

TEST_F(TlsFetch, A_redirect_from_https_to_http_is_refused) {
  Nginx plain("");
  plain.publish("file", "content");
  Nginx first(server("return 302 " + plain.url("file") + ";"), "ssl");
  const auto result = fetch(trusting(first.url("start", "https")));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "a redirect: refused from https to http");
  plain.stop();
  EXPECT_TRUE(plain.log().empty());
}

TEST_F(TlsFetch, A_redirect_from_http_to_https_is_followed) {
  Nginx secure(server(), "ssl");
  secure.publish("file", "content");
  Nginx first("return 301 " + secure.url("file", "https") + ";");
  EXPECT_EQ(fetched(trusting(first.url("start"))), "content");
}

TEST_F(TlsFetch, A_file_of_the_credentials_that_is_missing_is_named) {
  const auto refusal = [&](auto change) {
    Request wanted = request("https://127.0.0.1:1/file");
    change(wanted.credentials);
    const auto result = fetch(wanted);
    return result ? std::string()
                  : std::string(result.error().code_name()) + " " + result.error().line();
  };
  const auto expect = [](const std::string& line, const char* what) {
    EXPECT_EQ(line.substr(0, 15), "config_invalid ") << line;
    EXPECT_NE(line.find(std::string(what) + ": cannot open '/nowhere'"), std::string::npos) << line;
  };
  expect(refusal([](Credentials& c) { c.ca_file = "/nowhere"; }), "ca_file");
  expect(refusal([](Credentials& c) { c.client_certificate = "/nowhere"; }), "client_certificate");
  expect(refusal([](Credentials& c) { c.client_key = "/nowhere"; }), "client_key");
  expect(refusal([](Credentials& c) {
           c.use_netrc = true;
           c.netrc_file = "/nowhere";
         }),
         "netrc_file");
}

// The node's own certificate is for its artifact server: a webhook's request has no place for it.
TEST_F(TlsFetch, A_webhook_trusts_the_given_ca_alone_and_shows_no_certificate) {
  Nginx nginx(
      server("ssl_verify_client optional; ssl_client_certificate " + certificates_->path("ca.pem") +
             "; if ($ssl_client_verify != NONE) { return 403; } return 204;"),
      "ssl");
  PostRequest hook;
  hook.url = nginx.url("hook", "https");
  hook.body = "{}";
  EXPECT_FALSE(post_json(hook)) << "the system does not know this CA";
  hook.ca_file = certificates_->path("other.pem");
  EXPECT_FALSE(post_json(hook));
  hook.ca_file = certificates_->path("ca.pem");
  const base::Status sent = post_json(hook);
  EXPECT_TRUE(sent) << sent.error().line();
}

TEST_F(TlsFetch, A_certificate_that_is_none_is_a_mistake_of_this_node) {
  Nginx nginx(server(), "ssl");
  Request wanted = trusting(nginx.url("file", "https"));
  wanted.credentials.client_certificate = directory_.write("garbage.pem", "garbage");
  const auto result = fetch(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::config_invalid);
}

}  // namespace
}  // namespace updagent::fetch::test
