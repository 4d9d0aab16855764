// One question: the ways to ask, with one face for the loop.
#pragma once

#include <curl/curl.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/error.hpp"
#include "agent/health/probes.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::health {

// The answer.
struct Finding {
  bool healthy = false;
  std::string problem;  // for people; empty when healthy
  std::string output;   // of a command
};

class ProbeRun {
 public:
  virtual ~ProbeRun() = default;
  // Readable when look() may have news; -1 for a transfer, which curl waits for itself.
  virtual int event_fd() const { return -1; }
  // The answer once there is one. Never blocks.
  virtual std::optional<Finding> look() = 0;
  // Nothing tells when the answer comes: it is looked for again after this span.
  virtual std::optional<base::Milliseconds> look_again() const { return std::nullopt; }
};

struct SlistFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Headers = std::unique_ptr<curl_slist, SlistFree>;

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};

// The policy has a few places for connections that are steered. Where others have all of them that
// is nothing against the release: the next try is so much later, until the question's time is over.
inline constexpr base::Milliseconds kSteerAgain{20};

// A question that libcurl asks: made, added to the multi handle, and removed with the object. It
// goes where the context's `steer` brings it.
class Transfer : public ProbeRun {
 public:
  Transfer(base::Milliseconds limit, const ProbeContext& context, CURLM* multi);
  ~Transfer() override;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // After all options are set; false when libcurl refused one.
  bool begin();
  void end(CURLcode code) { code_ = code; }  // the loop found it among the done ones
  std::optional<Finding> look() override;
  std::optional<base::Milliseconds> look_again() const override;

 protected:
  virtual Finding judge(CURLcode code) = 0;
  // What is wrong with the connection, in words: "connection refused".
  std::string transfer_problem(CURLcode code) const;
  template <class Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(easy_.get(), option, value);
    if (code != CURLE_OK) options_ok_ = false;
  }
  // An http request as we send them all: to this URL, HTTP/1.1, no redirects, one connection, after
  // the header of the PROXY protocol where the context wants it.
  void set_request(const std::string& url, const char* user_agent, curl_slist* headers);
  CURL* easy() const { return easy_.get(); }
  const ProbeContext& context() const { return context_; }
  std::optional<CURLcode> code() const { return code_; }

 private:
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);
  bool steer(int fd, const curl_sockaddr& address);
  bool waits_for_a_place() const;
  bool add();
  bool set_proxy_header(const sockaddr* to);

  base::Milliseconds limit_;
  base::Deadline end_;
  base::Deadline next_try_;
  const ProbeContext& context_;
  CURLM* multi_;
  std::function<void()> unsteer_;
  std::string steer_problem_;
  bool is_busy_ = false;  // that is the problem
  std::unique_ptr<CURL, EasyFree> easy_;
  std::array<char, CURL_ERROR_SIZE> message_{};
  bool options_ok_ = true;
  bool may_send_proxy_header_ = false;
  bool added_ = false;
  std::optional<CURLcode> code_;
};

using StartedRun = base::Result<std::unique_ptr<ProbeRun>>;
StartedRun start_http(const release::Probe& probe, const ProbeContext& context, CURLM* multi);
StartedRun start_tcp(const release::Probe& probe, const ProbeContext& context, CURLM* multi);
// Who reads a page while it comes.
class PageSink {
 public:
  virtual ~PageSink() = default;
  // An error ends the transfer and is its problem.
  virtual base::Status take(std::string_view bytes) = 0;
  virtual base::Status end(std::string_view content_type) = 0;
};
struct Page {
  std::string url;
  const char* accept = "*/*";
  base::Milliseconds timeout{5'000};
  bool reads_refusals = false;  // the body of an answer that is not 200 goes to the sink as well
};
// Healthy when all of it came with status 200 and the sink found nothing wrong.
StartedRun start_page(const Page& page, std::shared_ptr<PageSink> sink, const ProbeContext& context,
                      CURLM* multi);
// A command that can't be started is a finding, not an error: a healthy release can start it.
std::unique_ptr<ProbeRun> start_exec(const release::Probe& probe, const ProbeContext& context);

}  // namespace updagent::health
