#include "agent/fetch/post.hpp"

#include "agent/fetch/curl_handles.hpp"
#include "agent/fetch/curl_options.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::fetch {
namespace {

constexpr std::size_t kMaxAnswer = 1024 * 1024;  // nobody reads it: a longer one ends the call

std::size_t discard(char*, std::size_t size, std::size_t count, void* user) {
  auto& total = *static_cast<std::size_t*>(user);
  total += size * count;
  return total > kMaxAnswer ? 0 : size * count;
}

}  // namespace

base::Status post_json(const PostRequest& request) {
  const auto failed = [&request](std::string got) {
    return base::Error(base::Code::fetch_failed, "POST to " + redacted_url(request.url) + " failed")
        .got(std::move(got));
  };
  if (initialise_curl() != CURLE_OK) return failed("libcurl can't start");
  const EasyHandle handle(curl_easy_init());
  if (!handle) return failed("out of memory");
  HeaderList headers(curl_slist_append(nullptr, "Content-Type: application/json"));
  if (!request.bearer_token.empty())
    headers.reset(curl_slist_append(headers.release(),
                                    ("Authorization: Bearer " + request.bearer_token).c_str()));
  std::size_t answered = 0;
  CURL* easy = handle.get();
  bool good = headers != nullptr && set_tls(easy, request.ca_file);
  set(good, easy, CURLOPT_URL, request.url.c_str());
  set(good, easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(good, easy, CURLOPT_HTTPHEADER, headers.get());
  set(good, easy, CURLOPT_POSTFIELDS, request.body.c_str());
  set(good, easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  set(good, easy, CURLOPT_WRITEFUNCTION, &discard);
  set(good, easy, CURLOPT_WRITEDATA, &answered);
  set(good, easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  set(good, easy, CURLOPT_NOSIGNAL, 1L);
  set(good, easy, CURLOPT_USERAGENT, "updagent/" UPDAGENT_VERSION);
  // an option that was not taken could be the one that checks the receiver
  if (!good) return failed("libcurl refused an option, or memory is short");
  const CURLcode code = curl_easy_perform(handle.get());
  if (code != CURLE_OK) return failed(curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status < 200 || status > 299)
    return base::Error(failed("HTTP " + std::to_string(status))).expected("HTTP 2xx");
  return base::ok();
}

}  // namespace updagent::fetch
