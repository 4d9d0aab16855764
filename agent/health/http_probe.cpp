#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

std::string ranges_text(const std::vector<std::pair<int, int>>& ranges) {
  std::vector<std::string> parts;
  for (const auto& [first, last] : ranges)
    parts.push_back(first == last ? std::to_string(first)
                                  : std::to_string(first) + "-" + std::to_string(last));
  return base::join(parts, ", ");
}

class HttpRun : public Transfer {
 public:
  HttpRun(const release::Probe& probe, const ProbeContext& context, CURLM* multi)
      : Transfer(probe, context, multi), headers_(curl_slist_append(nullptr, "Connection: close")) {
    if (easy() == nullptr) return;
    set(CURLOPT_URL, probe.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_FOLLOWLOCATION, 0L);  // a redirect is an answer like any other
    set(CURLOPT_USERAGENT, "updagent-probe/" UPDAGENT_VERSION);
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_WRITEFUNCTION, &HttpRun::take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    if (!context.ca_file.empty()) set(CURLOPT_CAINFO, context.ca_file.c_str());
  }

 protected:
  Finding judge(CURLcode code) override {
    // the limit of the body stopped it, not the server
    const bool complete = code == CURLE_OK || (code == CURLE_WRITE_ERROR && body_full_);
    if (!complete) return {false, transfer_problem(code), ""};
    long status = 0;
    curl_easy_getinfo(easy(), CURLINFO_RESPONSE_CODE, &status);
    const auto& ranges = probe().expect_status;
    const bool expected = std::any_of(ranges.begin(), ranges.end(), [&](const auto& range) {
      return status >= range.first && status <= range.second;
    });
    if (!expected)
      return {false, "HTTP " + std::to_string(status) + ", expected " + ranges_text(ranges), ""};
    if (body_.find(probe().expect_body) == std::string::npos)
      return {false, "body lacks '" + base::printable(probe().expect_body) + "'", ""};
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

  std::unique_ptr<curl_slist, ListFree> headers_;
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
