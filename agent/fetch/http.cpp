#include "agent/fetch/http.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/fetch/curl_options.hpp"

namespace updagent::fetch {
namespace {

// A head of this size is an attack or a mistake: real ones have a few KiB.
constexpr std::size_t kMaxHeadBytes = 256 * 1024;
constexpr long kReceiveBuffer = 256 * 1024;
// Under a cap on the rate libcurl reads up to this many buffers at once, then pauses until the
// average is right again (lib/transfer.c): so the buffer decides how long the pauses are.
constexpr std::uint64_t kBuffersAtOnce = 100;
constexpr std::uint64_t kSmallestReceiveBuffer = 1024;  // READBUFFER_MIN
constexpr std::uint64_t kCappedReceiveBuffer = 16 * 1024;
constexpr int kLongestPollMs = 1000;  // progress is reported at least this often
constexpr const char* kUserAgent = "updagent/" UPDAGENT_VERSION;

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// A transfer is in the multi handle as long as this lives: leaving early takes it out.
class Attached {
 public:
  Attached(CURLM* multi, CURL* easy) : multi_(multi), easy_(easy) {
    added_ = curl_multi_add_handle(multi, easy) == CURLM_OK;
  }
  ~Attached() {
    if (added_) curl_multi_remove_handle(multi_, easy_);
  }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;
  bool added() const { return added_; }

 private:
  CURLM* multi_;
  CURL* easy_;
  bool added_ = false;
};

bool append_header(HeaderList& list, const std::string& line) {
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (longer == nullptr) return false;
  if (!list) list.reset(longer);  // otherwise it is the one we hold, with one more at its end
  return true;
}

// Our own lines rather than CURLOPT_RANGE and friends: libcurl would judge the answer by itself.
HeaderList headers_for(const Conditions& conditions) {
  HeaderList list;
  // the file's own bytes: a server that compresses on the way would give others
  bool complete = append_header(list, "Accept-Encoding: identity");
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty())
      complete = complete && append_header(list, std::string(name) + ": " + value);
  };
  if (conditions.from > 0) add("Range", "bytes=" + std::to_string(conditions.from) + "-");
  add("If-Range", conditions.if_range);
  add("If-None-Match", conditions.if_none_match);
  add("If-Modified-Since", conditions.if_modified_since);
  return complete ? std::move(list) : nullptr;
}

base::Status require_readable(const std::string& path, const char* what) {
  if (path.empty()) return base::ok();
  auto fd = base::open_path(path, O_RDONLY);
  if (fd) return base::ok();
  return base::Error(base::Code::config_invalid, fd.error().message())
      .with_context(what)
      .hint("correct it in [fetch] of node.toml");
}

// A second of data at once, where the smallest buffer allows it.
long receive_buffer(const Limits& limits) {
  if (limits.bytes_per_second == 0) return kReceiveBuffer;
  return static_cast<long>(std::clamp(limits.bytes_per_second / kBuffersAtOnce,
                                      kSmallestReceiveBuffer, kCappedReceiveBuffer));
}

// A cap that the operator has set must not look like a dead link, nor must its pauses.
StallWatch stall_watch(const Limits& limits) {
  if (limits.bytes_per_second == 0) return {limits.low_speed_bytes, limits.low_speed_time};
  const std::uint64_t burst = kBuffersAtOnce * static_cast<std::uint64_t>(receive_buffer(limits));
  const auto pause =
      base::Milliseconds(static_cast<std::int64_t>(burst * 1000 / limits.bytes_per_second));
  return {std::min(limits.low_speed_bytes, limits.bytes_per_second / 2),
          std::max(limits.low_speed_time, 3 * pause)};
}

Failure final_failure(std::string problem, std::string hint = "") {
  Failure failure;
  failure.remedy = Remedy::give_up;
  failure.problem = std::move(problem);
  failure.hint = std::move(hint);
  return failure;
}

Failure link_failure(std::string problem) {
  Failure failure;
  failure.problem = std::move(problem);
  return failure;
}

Exchange failed(Failure failure) {
  return {false, false, std::move(failure)};
}

}  // namespace

// One request to one server: the state that libcurl's callbacks fill.
struct HttpClient::Hop {
  Hop(const Url& target, ResponseSink& receiver, const Limits& limits)
      : url(target), sink(receiver), stall(stall_watch(limits)) {}

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
    auto& hop = *static_cast<Hop*>(user);
    const std::size_t bytes = size * count;
    hop.head_bytes += bytes;
    hop.received += bytes;
    if (hop.head_bytes > kMaxHeadBytes) return 0;
    hop.head.take_line(std::string_view(data, bytes));
    return bytes;
  }

  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
    auto& hop = *static_cast<Hop*>(user);
    const std::size_t bytes = size * count;
    hop.received += bytes;
    if (is_redirect(hop.head.status)) return 0;  // only its Location counts
    if (!hop.announce() || !hop.sink.on_bytes(std::string_view(data, bytes))) {
      hop.ended_by_sink = true;
      return 0;
    }
    return bytes;
  }

  bool announce() {
    if (!announced) wanted = sink.on_response(head);
    announced = true;
    return wanted;
  }

  const Url& url;
  ResponseSink& sink;
  StallWatch stall;
  EasyHandle easy;
  HeaderList headers;
  std::array<char, CURL_ERROR_SIZE> error_text{};
  ResponseHead head;
  std::size_t head_bytes = 0;
  std::uint64_t received = 0;
  bool announced = false;
  bool wanted = false;
  bool ended_by_sink = false;
  std::string redirect_to;
};

namespace {

bool set_transport(CURL* easy, const Limits& limits) {
  bool good = true;
  set(good, easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(good, easy, CURLOPT_FOLLOWLOCATION, 0L);
  set(good, easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
  set(good, easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(good, easy, CURLOPT_USERAGENT, kUserAgent);
  set(good, easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect_timeout.count()));
  set(good, easy, CURLOPT_BUFFERSIZE, receive_buffer(limits));
  set(good, easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(good, easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // the proxy's answer is not the server's
  set(good, easy, CURLOPT_NOSIGNAL, 1L);
  set(good, easy, CURLOPT_MAX_RECV_SPEED_LARGE, static_cast<curl_off_t>(limits.bytes_per_second));
#if LIBCURL_VERSION_NUM >= 0x075700
  // Without it an interrupt waits for the resolver's thread, up to its own timeout.
  set(good, easy, CURLOPT_QUICK_EXIT, 1L);
#endif
  return good;
}

// Only for the origin that the operator named: see http.hpp.
bool set_credentials(CURL* easy, const Url& url, const Credentials& credentials) {
  bool good = true;
  if (!credentials.client_certificate.empty())
    set(good, easy, CURLOPT_SSLCERT, credentials.client_certificate.c_str());
  if (!credentials.client_key.empty())
    set(good, easy, CURLOPT_SSLKEY, credentials.client_key.c_str());
  if (!url.user.empty() || !url.password.empty()) {
    set(good, easy, CURLOPT_USERNAME, url.user.c_str());
    set(good, easy, CURLOPT_PASSWORD, url.password.c_str());
  } else if (credentials.use_netrc) {
    set(good, easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_OPTIONAL));
    if (!credentials.netrc_file.empty())
      set(good, easy, CURLOPT_NETRC_FILE, credentials.netrc_file.c_str());
  }
  return good;
}

// libcurl's timers know when the connection stood; before that its connect timeout is in charge.
bool is_connected(CURL* easy) {
  curl_off_t since_us = 0;
  return curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &since_us) == CURLE_OK &&
         since_us > 0;
}

// Where a redirect may lead. `first` is what the operator named: its credentials stay with it.
base::Result<Url> next_target(const Url& first, const Url& from, const std::string& location) {
  UPD_ASSIGN(Url next, parse_url(location));
  if (next.scheme == "file" || (from.is_https() && !next.is_https()))
    return base::Error(base::Code::fetch_failed,
                       "refused from " + from.scheme + " to " + next.scheme)
        .hint("give the other URL itself if that is meant");
  const bool brings_its_own = !next.user.empty() || !next.password.empty();
  next.user = brings_its_own ? next.user : next.origin == first.origin ? first.user : "";
  next.password = brings_its_own                ? next.password
                  : next.origin == first.origin ? first.password
                                                : "";
  return next;
}

std::optional<CURLcode> finished(CURLM* multi) {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &left))
    if (message->msg == CURLMSG_DONE) return message->data.result;
  return std::nullopt;
}

}  // namespace

HttpClient::HttpClient(const Limits& limits, const Credentials& credentials,
                       base::Interrupt* interrupt)
    : limits_(limits), credentials_(credentials), interrupt_(interrupt) {}

base::Status HttpClient::prepare() {
  UPD_TRY(require_readable(credentials_.ca_file, "ca_file"));
  UPD_TRY(require_readable(credentials_.client_certificate, "client_certificate"));
  UPD_TRY(require_readable(credentials_.client_key, "client_key"));
  if (credentials_.use_netrc) UPD_TRY(require_readable(credentials_.netrc_file, "netrc_file"));
  if (initialise_curl() == CURLE_OK) multi_.reset(curl_multi_init());
  if (!multi_) return base::Error(base::Code::internal, "libcurl could not be started");
  return base::ok();
}

Exchange HttpClient::get(const Url& url, const Conditions& conditions, ResponseSink& sink) {
  Url target = url;
  for (int redirects = 0;; ++redirects) {
    Hop hop(target, sink, limits_);
    hop.easy.reset(curl_easy_init());
    hop.headers = headers_for(conditions);
    bool good = hop.easy && hop.headers && set_transport(hop.easy.get(), limits_) &&
                set_tls(hop.easy.get(), credentials_.ca_file);
    if (good && target.origin == url.origin)
      good = set_credentials(hop.easy.get(), target, credentials_);
    if (!good) return failed(final_failure("libcurl refused an option, or memory is short"));
    Exchange exchange = run(hop);
    if (hop.redirect_to.empty()) return exchange;
    if (redirects == limits_.max_redirects)
      return failed(final_failure("more than " + std::to_string(redirects) + " redirects"));
    auto next = next_target(url, target, hop.redirect_to);
    if (!next)
      return failed(final_failure("a redirect: " + next.error().line(), next.error().hint()));
    target = std::move(*next);
  }
}

Exchange HttpClient::run(Hop& hop) {
  CURL* easy = hop.easy.get();
  bool good = true;
  set(good, easy, CURLOPT_URL, hop.url.location.c_str());
  set(good, easy, CURLOPT_HTTPHEADER, hop.headers.get());
  set(good, easy, CURLOPT_ERRORBUFFER, hop.error_text.data());
  set(good, easy, CURLOPT_HEADERFUNCTION, &Hop::on_header);
  set(good, easy, CURLOPT_HEADERDATA, &hop);
  set(good, easy, CURLOPT_WRITEFUNCTION, &Hop::on_body);
  set(good, easy, CURLOPT_WRITEDATA, &hop);
  const Attached attached(multi_.get(), easy);
  if (!good || !attached.added()) return failed(final_failure("libcurl refused the URL"));
  for (;;) {
    if (auto ended = drive(hop)) return *ended;
    curl_waitfd interrupt{interrupt_ != nullptr ? interrupt_->fd() : -1, CURL_WAIT_POLLIN, 0};
    const unsigned extra = interrupt_ != nullptr ? 1 : 0;
    const auto wait_ms = static_cast<int>(
        std::clamp<std::int64_t>(limits_.low_speed_time.count(), 1, kLongestPollMs));
    if (curl_multi_poll(multi_.get(), &interrupt, extra, wait_ms, nullptr) != CURLM_OK)
      return failed(final_failure("libcurl could not wait for the network"));
  }
}

// One turn of the loop; nothing while the transfer goes on.
std::optional<Exchange> HttpClient::drive(Hop& hop) {
  int running = 0;
  if (curl_multi_perform(multi_.get(), &running) != CURLM_OK)
    return failed(final_failure("libcurl could not go on"));
  if (const auto code = finished(multi_.get())) return conclude(hop, *code);
  hop.sink.on_tick();
  if (interrupt_ != nullptr && interrupt_->requested()) return Exchange{true, false, std::nullopt};
  if (is_connected(hop.easy.get()) && hop.stall.is_dead(base::monotonic_now_us(), hop.received))
    return failed(link_failure(hop.stall.describe()));
  return std::nullopt;
}

Exchange HttpClient::conclude(Hop& hop, CURLcode code) {
  if (hop.ended_by_sink) return {false, true, std::nullopt};
  if (hop.head_bytes > kMaxHeadBytes)
    return failed(link_failure("the head of the answer is too large"));
  if (is_redirect(hop.head.status) && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
    hop.redirect_to = resolve_reference(hop.url, hop.head.location);
    if (!hop.redirect_to.empty()) return {};
    return failed(
        final_failure("HTTP " + std::to_string(hop.head.status) + " without a usable Location"));
  }
  if (code == CURLE_OK) {
    // a response without a body was not announced yet
    if (!hop.announce()) return {false, true, std::nullopt};
    return {};
  }
  long os_errno = 0;
  curl_easy_getinfo(hop.easy.get(), CURLINFO_OS_ERRNO, &os_errno);
  // It is a leftover of libcurl's last system call unless the connection itself failed.
  if (code != CURLE_COULDNT_CONNECT) os_errno = 0;
  return failed(failure_of_transport(static_cast<int>(code), hop.error_text.data(),
                                     static_cast<int>(os_errno)));
}

}  // namespace updagent::fetch
