#include "agent/fetch/url.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/digest.hpp"
#include "agent/fetch/curl_handles.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::fetch {
namespace {

constexpr std::string_view kHidden = "***";

bool starts_with_ignoring_case(std::string_view text, std::string_view lower_prefix) {
  if (text.size() < lower_prefix.size()) return false;
  return std::equal(lower_prefix.begin(), lower_prefix.end(), text.begin(), [](char want, char c) {
    return want == (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  });
}

// "" when the URL has no such part.
std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, flags) != CURLUE_OK) return "";
  const CurlText owner(text);
  return text;
}

// libcurl guesses "http" for text without a scheme unless the scheme is there: it must be.
UrlHandle read(const std::string& text) {
  UrlHandle url(curl_url());
  if (!url || text.size() > kMaxUrlBytes) return nullptr;
  // what has a NUL inside would be read only up to it
  if (text.find('\0') != std::string::npos) return nullptr;
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
    return nullptr;
  return url;
}

void drop_credentials(CURLU* url) {
  curl_url_set(url, CURLUPART_USER, nullptr, 0);
  curl_url_set(url, CURLUPART_PASSWORD, nullptr, 0);
  curl_url_set(url, CURLUPART_OPTIONS, nullptr, 0);
  curl_url_set(url, CURLUPART_FRAGMENT, nullptr, 0);
}

// "a=1&b=2" -> "a=***&b=***"; an item without a name could be a token itself.
std::string hide_values(std::string_view query) {
  std::string out;
  while (!query.empty()) {
    const std::string_view item = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    if (!out.empty()) out += '&';
    if (equals != std::string_view::npos) out += item.substr(0, equals + 1);
    out += kHidden;
  }
  return out;
}

}  // namespace

bool is_url(std::string_view source) {
  static constexpr std::array<std::string_view, 3> kSchemes = {"https:", "http:", "file:"};
  return std::any_of(kSchemes.begin(), kSchemes.end(), [&](std::string_view scheme) {
    return starts_with_ignoring_case(source, scheme);
  });
}

std::string redacted_url(std::string_view text) {
  const UrlHandle url = read(std::string(text));
  if (!url) {
    // Unreadable: where its password begins and ends is anyone's guess, so only the scheme is
    // shown.
    const std::size_t colon = text.find(':');
    const bool known = is_url(text) && colon != std::string_view::npos;
    return (known ? std::string(text.substr(0, colon)) + "://" : std::string()) +
           std::string(kHidden);
  }
  drop_credentials(url.get());
  const std::string query = part(url.get(), CURLUPART_QUERY);
  curl_url_set(url.get(), CURLUPART_QUERY, query.empty() ? nullptr : hide_values(query).c_str(), 0);
  return part(url.get(), CURLUPART_URL);
}

base::Result<Url> parse_url(const std::string& text) {
  const UrlHandle handle = read(text);
  if (!handle)
    return base::Error(base::Code::usage, "the URL '" + redacted_url(text) + "' can't be read")
        .expected("https://HOST/PATH, http://HOST/PATH or file:///PATH")
        .hint("spaces and special characters in a URL are written as %20 and the like");
  Url url;
  url.scheme = part(handle.get(), CURLUPART_SCHEME);
  if (url.scheme != "https" && url.scheme != "http" && url.scheme != "file")
    return base::Error(base::Code::usage, "this kind of URL is not supported")
        .expected("https, http or file")
        .got(url.scheme);
  url.user = part(handle.get(), CURLUPART_USER, CURLU_URLDECODE);
  url.password = part(handle.get(), CURLUPART_PASSWORD, CURLU_URLDECODE);
  drop_credentials(handle.get());
  url.location = part(handle.get(), CURLUPART_URL);
  if (url.scheme == "file") {
    url.path = part(handle.get(), CURLUPART_PATH, CURLU_URLDECODE);
    return url;
  }
  url.origin = url.scheme + "://" + part(handle.get(), CURLUPART_HOST) + ":" +
               part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  return url;
}

std::string resolve_reference(const Url& base, const std::string& reference) {
  const UrlHandle url = read(base.location);
  if (!url || reference.empty() || reference.size() > kMaxUrlBytes) return "";
  // browsers and curl take spaces in a Location, so servers send them
  const unsigned flags = CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE | CURLU_ALLOW_SPACE;
  if (curl_url_set(url.get(), CURLUPART_URL, reference.c_str(), flags) != CURLUE_OK) return "";
  return part(url.get(), CURLUPART_URL);
}

std::string storage_key(const Url& url) {
  return base::sha256(url.location).hex();
}

}  // namespace updagent::fetch
