// A tcp probe is libcurl's CONNECT_ONLY: names resolve without blocking the loop, and every
// address of a name is tried.
#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

// The kernel tells nobody when a server accepts.
constexpr base::Milliseconds kLookAgain{20};

class TcpRun : public Transfer {
 public:
  TcpRun(const release::Probe& probe, const ProbeContext& context, CURLM* multi)
      : Transfer(probe.timeout, context, multi),
        probe_(probe),
        url_("http://" + probe.address),
        end_(base::Deadline::in(probe.timeout)) {
    if (easy() == nullptr) return;
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_CONNECT_ONLY, 1L);
  }

  // Connected is half of it where somebody else than the server may listen.
  std::optional<Finding> look() override {
    if (code() == CURLE_OK && context().accepted && !is_accepted()) {
      if (!end_.passed()) return std::nullopt;
      return Finding{false, "connected, but nobody accepted the connection", ""};
    }
    return Transfer::look();
  }
  std::optional<base::Milliseconds> look_again() const override {
    if (code() != CURLE_OK) return Transfer::look_again();
    return kLookAgain;
  }

 protected:
  Finding judge(CURLcode code) override {
    if (code == CURLE_OK) return {true, "", ""};
    if (code == CURLE_OPERATION_TIMEDOUT)
      return {false, "no connection within " + base::format_duration(probe_.timeout), ""};
    return {false, transfer_problem(code), ""};
  }

 private:
  bool is_accepted() const {
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(easy(), CURLINFO_ACTIVESOCKET, &fd);
    return fd != CURL_SOCKET_BAD && context().accepted(fd);
  }
  const release::Probe& probe_;
  std::string url_;
  base::Deadline end_;
};

// HOST:PORT and nothing that would make another URL of it.
bool is_host_and_port(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  const auto port = base::parse_u64(std::string_view(address).substr(colon + 1));
  return port && *port >= 1 && *port <= 65535 &&
         address.find_first_of("/?#@\\% \t\r\n") == std::string::npos;
}

}  // namespace

StartedRun start_tcp(const release::Probe& probe, const ProbeContext& context, CURLM* multi) {
  if (!is_host_and_port(probe.address))
    return base::Error(base::Code::manifest_invalid,
                       "the address of the probe '" + probe.name + "' can't be used")
        .expected("HOST:PORT or [V6]:PORT")
        .got("'" + probe.address + "'");
  auto run = std::make_unique<TcpRun>(probe, context, multi);
  if (!run->begin())
    return base::Error(base::Code::internal, "libcurl refused the probe '" + probe.name + "'");
  return std::unique_ptr<ProbeRun>(std::move(run));
}

}  // namespace updagent::health
