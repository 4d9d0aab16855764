// A tcp probe is libcurl's CONNECT_ONLY: names resolve without blocking the loop, and every
// address of a name is tried.
#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

class TcpRun : public Transfer {
 public:
  TcpRun(const release::Probe& probe, CURLM* multi)
      : Transfer(probe, multi), url_("http://" + probe.address) {
    if (easy() == nullptr) return;
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_CONNECT_ONLY, 1L);
  }

 protected:
  Finding judge(CURLcode code) override {
    if (code == CURLE_OK) return {true, "", ""};
    if (code == CURLE_OPERATION_TIMEDOUT)
      return {false, "no connection within " + base::format_duration(probe().timeout), ""};
    return {false, transfer_problem(code), ""};
  }

 private:
  std::string url_;
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

StartedRun start_tcp(const release::Probe& probe, CURLM* multi) {
  if (!is_host_and_port(probe.address))
    return base::Error(base::Code::manifest_invalid,
                       "the address of the probe '" + probe.name + "' can't be used")
        .expected("HOST:PORT or [V6]:PORT")
        .got("'" + probe.address + "'");
  auto run = std::make_unique<TcpRun>(probe, multi);
  if (!run->begin())
    return base::Error(base::Code::internal, "libcurl refused the probe '" + probe.name + "'");
  return std::unique_ptr<ProbeRun>(std::move(run));
}

}  // namespace updagent::health
