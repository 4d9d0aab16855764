#include "agent/fetch/post.hpp"

#include "agent/fetch/curl_handles.hpp"

namespace updagent::fetch {
namespace {

constexpr std::size_t kMaxAnswer = 1024 * 1024;  // nobody reads it: a longer one ends the call

std::size_t discard(char*, std::size_t size, std::size_t count, void* user) {
  auto& total = *static_cast<std::size_t*>(user);
  total += size * count;
  return total > kMaxAnswer ? 0 : size * count;
}

void apply_credentials(CURL* handle, const Credentials& credentials) {
  if (!credentials.ca_file.empty())
    curl_easy_setopt(handle, CURLOPT_CAINFO, credentials.ca_file.c_str());
  if (!credentials.client_certificate.empty())
    curl_easy_setopt(handle, CURLOPT_SSLCERT, credentials.client_certificate.c_str());
  if (!credentials.client_key.empty())
    curl_easy_setopt(handle, CURLOPT_SSLKEY, credentials.client_key.c_str());
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
  curl_easy_setopt(handle.get(), CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDS, request.body.c_str());
  curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                   static_cast<curl_off_t>(request.body.size()));
  curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, &discard);
  curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &answered);
  curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  curl_easy_setopt(handle.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle.get(), CURLOPT_USERAGENT, "updagent/" UPDAGENT_VERSION);
  apply_credentials(handle.get(), request.credentials);
  const CURLcode code = curl_easy_perform(handle.get());
  if (code != CURLE_OK) return failed(curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status < 200 || status > 299)
    return base::Error(failed("HTTP " + std::to_string(status))).expected("HTTP 2xx");
  return base::ok();
}

}  // namespace updagent::fetch
