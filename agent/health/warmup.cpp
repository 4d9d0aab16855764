#include "agent/health/warmup.hpp"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr base::Milliseconds kWarmupTick{500};

struct MultiFree {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};

Error warmup_refused(const char* what) {
  return {Code::internal, std::string("the service can't be warmed up: libcurl: ") + what};
}

// One request after the other.
class Asker {
 public:
  Asker(const ProbeContext& context, base::Milliseconds limit)
      : context_(context), easy_(curl_easy_init()) {
    if (!easy_) return;
    set(CURLOPT_PRIVATE, static_cast<void*>(this));
    set(CURLOPT_ERRORBUFFER, message_.data());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_USERAGENT, "updagent-warmup/" UPDAGENT_VERSION);
    set(CURLOPT_WRITEFUNCTION, &Asker::drop);
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(limit.count()));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limit.count()));
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NOPROXY, "*");
    set(CURLOPT_OPENSOCKETFUNCTION, &Asker::open_socket);
    set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
    set(CURLOPT_PREREQFUNCTION, &Asker::before_request);
    set(CURLOPT_PREREQDATA, static_cast<void*>(this));
  }
  ~Asker() { steered_is_over(); }
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;

  bool usable() const { return easy_ != nullptr && options_ok_; }
  CURL* easy() const { return easy_.get(); }
  void wants_proxy_header() { set(CURLOPT_HAPROXYPROTOCOL, 1L); }
  void aim(const std::string& url) {
    set(CURLOPT_URL, url.c_str());
    message_[0] = '\0';
    steer_problem_.clear();
    is_busy_ = false;
  }
  // Others have all places of the policy: it is asked again.
  bool is_busy() const { return is_busy_; }
  std::string problem(CURLcode code) const {
    if (!steer_problem_.empty()) return steer_problem_;
    return message_[0] != '\0' ? message_.data() : curl_easy_strerror(code);
  }
  void steered_is_over() {
    if (unsteer_) std::exchange(unsteer_, nullptr)();
  }

 private:
  template <class Value>
  void set(CURLoption option, Value value) {
    if (curl_easy_setopt(easy_.get(), option, value) != CURLE_OK) options_ok_ = false;
  }
  static std::size_t drop(char*, std::size_t one, std::size_t count, void*) { return one * count; }

  static curl_socket_t open_socket(void* self, curlsocktype, curl_sockaddr* address) {
    Asker& asker = *static_cast<Asker*>(self);
    base::UniqueFd fd(::socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                               address->protocol));
    if (!fd) return CURL_SOCKET_BAD;
    if (!asker.context_.steer) return fd.release();
    auto undo = asker.context_.steer(fd.get(), &address->addr);
    if (!undo) {
      asker.steer_problem_ = undo.error().line();
      asker.is_busy_ = undo.error().code() == Code::busy;
      return CURL_SOCKET_BAD;
    }
    asker.steer_problem_.clear();
    asker.is_busy_ = false;
    asker.steered_is_over();
    asker.unsteer_ = std::move(*undo);
    return fd.release();
  }

  // Connected: the kernel has chosen, the entry in the policy is free for others.
  static int before_request(void* self, char*, char*, int, int) {
    static_cast<Asker*>(self)->steered_is_over();
    return CURL_PREREQFUNC_OK;
  }

  const ProbeContext& context_;
  std::function<void()> unsteer_;
  std::string steer_problem_;
  bool is_busy_ = false;
  std::array<char, CURL_ERROR_SIZE> message_{};
  bool options_ok_ = true;
  std::unique_ptr<CURL, EasyFree> easy_;
};

class WarmUp {
 public:
  WarmUp(const release::Warmup& warmup, const std::string& origin, const ProbeContext& context)
      : warmup_(warmup),
        origin_(origin),
        context_(context),
        end_(base::Deadline::in(warmup.timeout)) {
    result_.wanted = static_cast<std::int64_t>(warmup.paths.size()) * warmup.count;
  }
  // before the multi handle is freed
  ~WarmUp() {
    for (const auto& asker : askers_) curl_multi_remove_handle(multi_.get(), asker->easy());
  }
  WarmUp(const WarmUp&) = delete;
  WarmUp& operator=(const WarmUp&) = delete;

  Result<WarmupResult> run(bool proxy_header) {
    UPD_TRY(start(proxy_header));
    while (under_way_ > 0) {
      if (context_.interrupt != nullptr && context_.interrupt->requested()) {
        result_.interrupted = true;
        break;
      }
      if (end_.passed()) {
        result_.timed_out = true;
        break;
      }
      UPD_TRY(step());
    }
    return result_;
  }

 private:
  Status start(bool proxy_header) {
    static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_.reset(kReady == CURLE_OK ? curl_multi_init() : nullptr);
    if (!multi_) return warmup_refused("no memory");
    const auto count = std::min(kWarmupAtOnce, static_cast<std::size_t>(result_.wanted));
    for (std::size_t i = 0; i < count; ++i) {
      askers_.push_back(std::make_unique<Asker>(context_, warmup_.timeout));
      if (proxy_header) askers_.back()->wants_proxy_header();
      UPD_TRY(ask_next(*askers_.back()));
    }
    return base::ok();
  }

  Status ask_next(Asker& asker) {
    if (asked_ == result_.wanted) return base::ok();
    const auto path = static_cast<std::size_t>(asked_) % warmup_.paths.size();
    asker.aim(origin_ + warmup_.paths[path]);
    if (!asker.usable()) return warmup_refused("an option is not known");
    UPD_TRY(add(asker));
    ++asked_;
    ++under_way_;
    return base::ok();
  }

  Status add(const Asker& asker) {
    const CURLMcode code = curl_multi_add_handle(multi_.get(), asker.easy());
    return code == CURLM_OK ? base::ok() : Status(warmup_refused(curl_multi_strerror(code)));
  }

  Status ask_waiting() {
    if (waiting_.empty() || !next_try_.passed()) return base::ok();
    for (const Asker* asker : std::exchange(waiting_, {})) UPD_TRY(add(*asker));
    return base::ok();
  }

  Status step() {
    UPD_TRY(ask_waiting());
    int running = 0;
    const CURLMcode code = curl_multi_perform(multi_.get(), &running);
    if (code != CURLM_OK) return warmup_refused(curl_multi_strerror(code));
    int queued = 0;
    bool news = false;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &queued)) {
      if (message->msg != CURLMSG_DONE) continue;
      news = true;
      UPD_TRY(take(message->easy_handle, message->data.result));
    }
    return news ? tick() : wait();
  }

  Status take(CURL* easy, CURLcode code) {
    Asker* asker = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &asker);
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(multi_.get(), easy);
    asker->steered_is_over();
    if (code != CURLE_OK && asker->is_busy()) {
      next_try_ = base::Deadline::in(kSteerAgain);
      waiting_.push_back(asker);
      return base::ok();
    }
    --under_way_;
    if (code == CURLE_OK && status > 0)
      ++result_.answered;
    else
      result_.problem = asker->problem(code);
    return ask_next(*asker);
  }

  Status wait() {
    std::vector<curl_waitfd> others;
    if (context_.interrupt != nullptr)
      others.push_back({context_.interrupt->fd(), CURL_WAIT_POLLIN, 0});
    const std::size_t before = others.size();
    for (const Served& other : context_.served) others.push_back({other.fd, CURL_WAIT_POLLIN, 0});
    const auto span = std::min(waiting_.empty() ? kWarmupTick : kSteerAgain, end_.left());
    const CURLMcode code =
        curl_multi_poll(multi_.get(), others.data(), static_cast<unsigned>(others.size()),
                        static_cast<int>(span.count()), nullptr);
    if (code != CURLM_OK) return warmup_refused(curl_multi_strerror(code));
    for (std::size_t i = 0; i < context_.served.size(); ++i)
      if (others[before + i].revents != 0) context_.served[i].on_event();
    return tick();
  }

  Status tick() {
    if (!context_.on_tick || !tick_.passed()) return base::ok();
    tick_ = base::Deadline::in(kWarmupTick);
    return context_.on_tick();
  }

  const release::Warmup& warmup_;
  const std::string& origin_;
  const ProbeContext& context_;
  base::Deadline end_;
  base::Deadline tick_ = base::Deadline::in(kWarmupTick);
  std::unique_ptr<CURLM, MultiFree> multi_;
  std::vector<std::unique_ptr<Asker>> askers_;
  std::vector<Asker*> waiting_;  // for a place in the policy
  base::Deadline next_try_ = base::Deadline::in(base::Milliseconds(0));
  WarmupResult result_;
  std::int64_t asked_ = 0;
  std::size_t under_way_ = 0;
};

}  // namespace

base::Result<WarmupResult> warm_up(const release::Warmup& warmup, const std::string& origin,
                                   const ProbeContext& context, bool proxy_header) {
  if (warmup.paths.empty() || warmup.count <= 0) return WarmupResult();
  return WarmUp(warmup, origin, context).run(proxy_header);
}

}  // namespace updagent::health
