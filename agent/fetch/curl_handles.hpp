// libcurl's handles as owner types, and its one-time initialisation.
#pragma once

#include <curl/curl.h>

#include <memory>

namespace updagent::fetch {

struct CloseEasy {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct CloseMulti {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct CloseUrl {
  void operator()(CURLU* handle) const { curl_url_cleanup(handle); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeText {
  void operator()(char* text) const { curl_free(text); }
};
using EasyHandle = std::unique_ptr<CURL, CloseEasy>;
using MultiHandle = std::unique_ptr<CURLM, CloseMulti>;
using UrlHandle = std::unique_ptr<CURLU, CloseUrl>;
using HeaderList = std::unique_ptr<curl_slist, FreeList>;
using CurlText = std::unique_ptr<char, FreeText>;

// curl_global_init counts its callers, so this one does not disturb others in the process. It is
// never undone: a handle in another thread may outlive whoever would undo it.
inline CURLcode initialise_curl() {
  static const CURLcode kResult = curl_global_init(CURL_GLOBAL_DEFAULT);
  return kResult;
}

}  // namespace updagent::fetch
