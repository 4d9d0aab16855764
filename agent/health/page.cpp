// A page that is read as it comes: of metrics, or the answer of a Prometheus server.
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

constexpr long kWanted = 200;

class PageRun : public Transfer {
 public:
  PageRun(const Page& page, std::shared_ptr<PageSink> sink, const ProbeContext& context,
          CURLM* multi)
      : Transfer(page.timeout, context, multi),
        reads_refusals_(page.reads_refusals),
        sink_(std::move(sink)) {
    for (const std::string& header :
         {std::string("Connection: close"), std::string("Accept: ") + page.accept})
      add_header(header);
    if (easy() == nullptr) return;
    set_request(page.url, "updagent-gate/" UPDAGENT_VERSION, headers_.get());
    set(CURLOPT_WRITEFUNCTION, &PageRun::take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  }

 protected:
  Finding judge(CURLcode code) override {
    if (!sink_problem_.empty()) return {false, sink_problem_, ""};
    if (code != CURLE_OK) return {false, transfer_problem(code), ""};
    if (status() != kWanted)
      return {false, "HTTP " + std::to_string(status()) + ", expected " + std::to_string(kWanted),
              ""};
    const char* type = nullptr;
    curl_easy_getinfo(easy(), CURLINFO_CONTENT_TYPE, &type);
    const base::Status ended = sink_->end(type != nullptr ? type : "");
    if (!ended) return {false, ended.error().line(), ""};
    return {true, "", ""};
  }

 private:
  void add_header(const std::string& header) {
    curl_slist* before = headers_.release();
    curl_slist* longer = curl_slist_append(before, header.c_str());
    headers_.reset(longer == nullptr ? before : longer);
  }
  long status() const {
    long status = 0;
    curl_easy_getinfo(easy(), CURLINFO_RESPONSE_CODE, &status);
    return status;
  }
  static std::size_t take_body(char* bytes, std::size_t one, std::size_t count, void* run) {
    auto& self = *static_cast<PageRun*>(run);
    const std::size_t size = one * count;
    if (self.status() != kWanted && !self.reads_refusals_) return size;  // until it ends or is late
    const base::Status taken = self.sink_->take({bytes, size});
    if (taken) return size;
    self.sink_problem_ = taken.error().line();
    return CURL_WRITEFUNC_ERROR;
  }

  bool reads_refusals_;
  std::shared_ptr<PageSink> sink_;
  Headers headers_;
  std::string sink_problem_;
};

}  // namespace

StartedRun start_page(const Page& page, std::shared_ptr<PageSink> sink, const ProbeContext& context,
                      CURLM* multi) {
  auto run = std::make_unique<PageRun>(page, std::move(sink), context, multi);
  if (!run->begin())
    return base::Error(base::Code::internal, "libcurl refused the page " + page.url);
  return std::unique_ptr<ProbeRun>(std::move(run));
}

}  // namespace updagent::health
