#include "agent/fetch/retry.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>

#include "agent/base/text.hpp"

namespace updagent::fetch {
namespace {

// libcurl says how long an attempt took ("Failed to connect to HOST port N after 3 ms: ..."). Two
// attempts of one outage would then read as two problems, so that part is left out.
std::string without_duration(std::string_view text) {
  constexpr std::string_view kAfter = " after ";
  for (std::size_t at = text.find(kAfter); at != std::string_view::npos;
       at = text.find(kAfter, at + 1)) {
    const std::size_t number = at + kAfter.size();
    const std::size_t number_end = text.find_first_not_of("0123456789", number);
    if (number_end == number || number_end == std::string_view::npos) continue;
    for (const std::string_view unit : {" milliseconds", " ms"}) {
      if (text.substr(number_end).starts_with(unit))
        return std::string(text.substr(0, at)) + std::string(text.substr(number_end + unit.size()));
    }
  }
  return std::string(text);
}

std::string describe(CURLcode code, std::string_view detail, int os_errno) {
  std::string text = without_duration(detail.empty() ? curl_easy_strerror(code) : detail);
  // libcurl's text does not say whether a connection was refused or had no route
  const char* system_text = os_errno == 0 ? nullptr : ::strerrordesc_np(os_errno);
  if (system_text != nullptr && text.find(system_text) == std::string::npos)
    text += std::string(": ") + system_text;
  return base::printable(text);
}

// The node's own configuration is at fault: no server can mend it.
bool is_local_configuration(CURLcode code) {
  return code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_SSL_CRL_BADFILE || code == CURLE_SSL_ENGINE_NOTFOUND ||
         code == CURLE_SSL_ENGINE_SETFAILED || code == CURLE_SSL_ENGINE_INITFAILED;
}

bool is_refused_by_tls(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_ISSUER_ERROR ||
         code == CURLE_SSL_PINNEDPUBKEYNOTMATCH || code == CURLE_SSL_INVALIDCERTSTATUS ||
         code == CURLE_SSL_CLIENTCERT || code == CURLE_SSL_CIPHER;
}

// Named one by one: what is not known to pass by itself must not keep an operator waiting an hour.
bool is_passing(CURLcode code) {
  switch (static_cast<int>(code)) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:  // a handshake that was cut looks like this too
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_AGAIN:
    case CURLE_PROXY:
      return true;
    default:
      return false;
  }
}

bool is_busy_status(int status) {
  constexpr int kRequestTimeout = 408;
  constexpr int kTooManyRequests = 429;
  return status == kRequestTimeout || status == kTooManyRequests || (status >= 500 && status < 600);
}

std::string hint_for_status(int status) {
  if (status == 401 || status == 403)
    return "give credentials in [fetch]: netrc, or client_certificate and client_key";
  if (status == 407) return "give the proxy's user and password in the proxy variable";
  if (status == 404 || status == 410) return "check the URL";
  return "";
}

}  // namespace

Failure failure_of_transport(int curl_code, std::string_view detail, int os_errno) {
  const auto code = static_cast<CURLcode>(curl_code);
  Failure failure;
  failure.problem = describe(code, detail, os_errno);
  if (is_passing(code)) return failure;
  failure.remedy = Remedy::give_up;
  if (is_local_configuration(code)) {
    failure.code = base::Code::config_invalid;
    failure.hint = "check ca_file, client_certificate and client_key in [fetch]";
  } else if (is_refused_by_tls(code)) {
    failure.hint = "a server with a CA of its own needs ca_file in [fetch]; check the clock too";
  }
  return failure;
}

Failure failure_of_status(int status, std::string_view retry_after, std::int64_t wall_us) {
  Failure failure;
  failure.problem = "HTTP " + std::to_string(status);
  if (is_busy_status(status)) {
    failure.remedy = Remedy::wait_for_server;
    failure.retry_after = parse_retry_after(retry_after, wall_us);
    return failure;
  }
  failure.remedy = Remedy::give_up;
  failure.hint = hint_for_status(status);
  return failure;
}

std::optional<base::Milliseconds> parse_retry_after(std::string_view text, std::int64_t wall_us) {
  constexpr std::uint64_t kMaxSeconds = 10ULL * 366 * 24 * 3600;  // so that milliseconds fit
  if (const auto seconds = base::parse_u64(text))
    return base::Milliseconds(1000 * static_cast<std::int64_t>(std::min(*seconds, kMaxSeconds)));
  if (const auto at_us = base::parse_http_date(text))
    return base::Milliseconds(std::max<std::int64_t>(0, (*at_us - wall_us) / 1000));
  return std::nullopt;
}

base::Milliseconds wait_before_retry(const Limits& limits, int failures, std::uint32_t random,
                                     std::optional<base::Milliseconds> retry_after,
                                     base::Milliseconds left) {
  constexpr int kMaxDoublings = 30;  // past any sensible backoff_max, and no overflow below it
  const int doublings = std::clamp(failures - 1, 0, kMaxDoublings);
  const std::int64_t first_ms = std::clamp<std::int64_t>(limits.backoff_first.count(), 1, 1 << 30);
  const std::int64_t capped_ms = std::min<std::int64_t>(
      first_ms << doublings, std::max<std::int64_t>(1, limits.backoff_max.count()));
  const double factor = 0.5 + static_cast<double>(random) / static_cast<double>(UINT32_MAX);
  auto wait_ms = static_cast<std::int64_t>(static_cast<double>(capped_ms) * factor);
  if (retry_after) wait_ms = std::max<std::int64_t>(wait_ms, retry_after->count());
  wait_ms = std::min<std::int64_t>(wait_ms, left.count());
  return base::Milliseconds(std::max<std::int64_t>(1, wait_ms));
}

bool StallWatch::is_dead(std::int64_t now_us, std::uint64_t received) {
  const std::int64_t window_us = window_.count() * 1000;
  if (!window_start_us_ || window_us <= 0) {
    window_start_us_ = now_us;
    received_at_start_ = received;
    return false;
  }
  const std::int64_t passed_us = now_us - *window_start_us_;
  if (passed_us < window_us) return false;
  const double enough =
      static_cast<double>(bytes_per_second_) * static_cast<double>(passed_us) / 1'000'000.0;
  const bool dead = static_cast<double>(received - received_at_start_) < enough;
  window_start_us_ = now_us;
  received_at_start_ = received;
  return dead;
}

std::string StallWatch::describe() const {
  return "fewer than " + std::to_string(bytes_per_second_) + " bytes per second for " +
         base::format_duration(window_);
}

}  // namespace updagent::fetch
