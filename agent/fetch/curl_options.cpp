#include "agent/fetch/curl_options.hpp"

namespace updagent::fetch {

bool set_tls(CURL* easy, const std::string& ca_file) {
  bool good = true;
  set(good, easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(good, easy, CURLOPT_SSL_VERIFYPEER, 1L);
  set(good, easy, CURLOPT_SSL_VERIFYHOST, 2L);
  if (ca_file.empty()) return good;
  set(good, easy, CURLOPT_CAINFO, ca_file.c_str());
  // instead of the system's CAs, not beside them: the directory has a default of its own
  set(good, easy, CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  return good;
}

}  // namespace updagent::fetch
