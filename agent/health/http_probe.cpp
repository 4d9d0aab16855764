#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

std::string ranges_text(const std::vector<std::pair<int, int>>& ranges) {
  std::vector<std::string> parts;
  parts.reserve(ranges.size());
  for (const auto& [first, last] : ranges)
    parts.push_back(first == last ? std::to_string(first)
                                  : std::to_string(first) + "-" + std::to_string(last));
  return base::join(parts, ", ");
}

class HttpRun : public Transfer {
 public:
  HttpRun(const release::Probe& probe, const ProbeContext& context, CURLM* multi)
      : Transfer(probe.timeout, context, multi),
        probe_(probe),
        headers_(curl_slist_append(nullptr, "Connection: close")) {
    if (easy() == nullptr) return;
    set_request(probe.url, "updagent-probe/" UPDAGENT_VERSION, headers_.get());
    set(CURLOPT_WRITEFUNCTION, &HttpRun::take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  }

 protected:
  Finding judge(CURLcode code) override {
    // the limit of the body stopped it, not the server
    const bool complete = code == CURLE_OK || (code == CURLE_WRITE_ERROR && body_full_);
    if (!complete) return {false, transfer_problem(code), ""};
    long status = 0;
    curl_easy_getinfo(easy(), CURLINFO_RESPONSE_CODE, &status);
    const auto& ranges = probe_.expect_status;
    const bool expected = std::any_of(ranges.begin(), ranges.end(), [&](const auto& range) {
      return status >= range.first && status <= range.second;
    });
    if (!expected)
      return {false, "HTTP " + std::to_string(status) + ", expected " + ranges_text(ranges), ""};
    if (body_.find(probe_.expect_body) == std::string::npos)
      return {false, "body lacks '" + base::printable(probe_.expect_body) + "'", ""};
    return {true, "", ""};
  }

 private:
  static std::size_t take_body(char* bytes, std::size_t one, std::size_t count, void* run) {
    auto& self = *static_cast<HttpRun*>(run);
    const std::size_t size = one * count;
    const std::size_t room = kBodyLimit - self.body_.size();
    self.body_.append(bytes, std::min(size, room));
    self.body_full_ = size > room;
    return self.body_full_ ? 0 : size;
  }

  const release::Probe& probe_;
  Headers headers_;
  std::string body_;
  bool body_full_ = false;
};

}  // namespace

StartedRun start_http(const release::Probe& probe, const ProbeContext& context, CURLM* multi) {
  auto run = std::make_unique<HttpRun>(probe, context, multi);
  if (!run->begin())
    return base::Error(base::Code::internal, "libcurl refused the probe '" + probe.name + "'");
  return std::unique_ptr<ProbeRun>(std::move(run));
}

}  // namespace updagent::health
