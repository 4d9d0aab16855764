// What http probes, tcp probes and pages share: one libcurl transfer, bounded in time and without
// any detour.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

std::string lower_first(std::string text) {
  const bool word = text.size() > 1 && text[1] >= 'a' && text[1] <= 'z';  // not "SSL ..."
  if (word && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return text;
}

}  // namespace

// In place of libcurl's own: the socket is steered between socket(2) and connect(2).
curl_socket_t Transfer::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  Transfer& transfer = *static_cast<Transfer*>(self);
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                          address->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  if (transfer.steer(fd, *address) && transfer.set_proxy_header(&address->addr)) return fd;
  ::close(fd);
  return CURL_SOCKET_BAD;
}

bool Transfer::steer(int fd, const curl_sockaddr& address) {
  if (!context_.steer) return true;
  auto undo = context_.steer(fd, &address.addr);
  if (!undo) {
    steer_problem_ = undo.error().line();
    is_busy_ = undo.error().code() == base::Code::busy;
    next_try_ = base::Deadline::in(kSteerAgain);
    return false;
  }
  steer_problem_.clear();
  is_busy_ = false;
  if (unsteer_) unsteer_();  // of the address that was tried before
  unsteer_ = std::move(*undo);
  return true;
}

// Only now is the address known; libcurl looks at the option when it has connected.
bool Transfer::set_proxy_header(const sockaddr* to) {
  if (!may_send_proxy_header_ || !context_.wants_proxy_header) return true;
  const long wanted = context_.wants_proxy_header(to) ? 1 : 0;
  return curl_easy_setopt(easy_.get(), CURLOPT_HAPROXYPROTOCOL, wanted) == CURLE_OK;
}

void Transfer::set_request(const std::string& url, const char* user_agent, curl_slist* headers) {
  may_send_proxy_header_ = true;
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_FOLLOWLOCATION, 0L);  // a redirect is an answer like any other
  set(CURLOPT_USERAGENT, user_agent);
  set(CURLOPT_HTTPHEADER, headers);
  if (!context_.ca_file.empty()) set(CURLOPT_CAINFO, context_.ca_file.c_str());
}

Transfer::Transfer(base::Milliseconds limit, const ProbeContext& context, CURLM* multi)
    : limit_(limit),
      end_(base::Deadline::in(limit)),
      next_try_(end_),
      context_(context),
      multi_(multi),
      easy_(curl_easy_init()) {
  if (!easy_) return;
  set(CURLOPT_PRIVATE, static_cast<void*>(this));
  set(CURLOPT_ERRORBUFFER, message_.data());
  set(CURLOPT_OPENSOCKETFUNCTION, &Transfer::open_socket);
  set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
  set(CURLOPT_NOSIGNAL, 1L);
  // The question is to this node: no proxy of the environment may answer it.
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOPROXY, "*");
  // Each answer is of a new connection, and of the address that the name has now.
  set(CURLOPT_FRESH_CONNECT, 1L);
  set(CURLOPT_FORBID_REUSE, 1L);
  set(CURLOPT_DNS_CACHE_TIMEOUT, 0L);
#if LIBCURL_VERSION_NUM >= 0x075700
  // A resolver thread that hangs is left behind instead of waited for at the end of the transfer.
  set(CURLOPT_QUICK_EXIT, 1L);
#endif
}

Transfer::~Transfer() {
  if (added_) curl_multi_remove_handle(multi_, easy_.get());
  if (unsteer_) unsteer_();
}

bool Transfer::begin() {
  if (!easy_) return false;
  end_ = base::Deadline::in(limit_);
  return add();
}

bool Transfer::add() {
  const auto left_ms = std::max(1L, static_cast<long>(end_.left().count()));  // 0 is no limit
  set(CURLOPT_TIMEOUT_MS, left_ms);
  set(CURLOPT_CONNECTTIMEOUT_MS, left_ms);
  added_ = options_ok_ && curl_multi_add_handle(multi_, easy_.get()) == CURLM_OK;
  return added_;
}

bool Transfer::waits_for_a_place() const {
  return is_busy_ && code_ && *code_ != CURLE_OK && !end_.passed();
}

std::optional<Finding> Transfer::look() {
  if (!code_) return std::nullopt;
  if (!waits_for_a_place()) return judge(*code_);
  if (!next_try_.passed()) return std::nullopt;
  curl_multi_remove_handle(multi_, easy_.get());
  code_.reset();
  message_[0] = '\0';
  if (!add()) code_ = CURLE_FAILED_INIT;
  return std::nullopt;
}

std::optional<base::Milliseconds> Transfer::look_again() const {
  if (!waits_for_a_place()) return std::nullopt;
  return std::max(next_try_.left(), base::Milliseconds(1));
}

std::string Transfer::transfer_problem(CURLcode code) const {
  if (!steer_problem_.empty()) return steer_problem_;
  const std::string limit = base::format_duration(limit_);
  long os_errno = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_OS_ERRNO, &os_errno);
  const std::string message = lower_first(base::printable(message_.data()));
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return "no answer within " + limit;
    case CURLE_COULDNT_CONNECT: {
      const char* why = os_errno != 0 ? strerrordesc_np(static_cast<int>(os_errno)) : nullptr;
      return why != nullptr ? lower_first(why) : "no connection: " + message;
    }
    case CURLE_GOT_NOTHING:
      return "the connection was closed without an answer";
    case CURLE_PARTIAL_FILE:
      return "the answer was cut short";
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      if (os_errno == ECONNRESET) return "connection reset by peer";
      break;
    default:
      break;
  }
  return message.empty() ? lower_first(curl_easy_strerror(code)) : message;
}

}  // namespace updagent::health
