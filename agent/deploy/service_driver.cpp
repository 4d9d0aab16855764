#include "agent/deploy/service_driver.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "agent/base/failpoints.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/probe_source.hpp"
#include "agent/listen/diag.hpp"
#include "agent/service/wire.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

// An old generation may drain for as long as its release says (hours, where streams are long): past
// this an operator had better decide.
constexpr base::Milliseconds kRoomPatience{3'600'000};
// A process that was killed is gone within a moment, and with it its socket.
constexpr int kReconnects = 10;
constexpr std::size_t kMaxOrders = 64;  // not carried out yet: more than the supervisor keeps
// An old generation that is started for a way back: past this many failures a person is faster.
constexpr int kActiveStarts = 4;
constexpr base::Milliseconds kLookAtActive{
    1'000};  // news of a supervisor that died come from nobody
constexpr base::Milliseconds kReconnectPause{20};

ServiceStatus status_from(const Json& json) {
  ServiceStatus status;
  if (!json.is_object()) return status;
  status.number = json.value("number", std::uint64_t{0});
  status.version = json.value("version", std::string());
  status.life = json.value("life", std::string());
  return status;
}

}  // namespace

Result<ServiceDriver> ServiceDriver::begin(service::Client client, const std::string& trace_id,
                                           Reconnect reconnect) {
  ServiceDriver driver(std::move(client), std::move(reconnect));
  driver.trace_id_ = trace_id;
  UPD_ASSIGN(const Json answer, driver.client_.ask("begin", {{"trace", trace_id}}));
  driver.take(answer);
  driver.candidate_ = status_from(answer.value("candidate", Json(nullptr)));
  return driver;
}

void ServiceDriver::take(const Json& answer) {
  epoch_ = answer.value("epoch", std::uint64_t{0});
  mechanism_ = answer.value("mechanism", std::string());
  reason_ = answer.value("reason", std::string());
  active_ = status_from(answer.value("active", Json(nullptr)));
  open_policy(answer.value("policy", Json(nullptr)));
}

// Without it (an older supervisor, no right to open a map by its id) the supervisor is asked alone.
void ServiceDriver::open_policy(const Json& ids) {
  policy_.reset();
  if (!ids.is_object()) return;
  const auto tag = base::parse_u64(ids.value("tag", std::string()));
  if (!tag) return;
  auto policy = listen::Policy::reopen({ids.value("map", std::uint32_t{0}), *tag});
  if (!policy) return;
  policy_.emplace(std::move(*policy));
  salt_ = policy_->salt();
}

// One that is dying may still take a connection, and resets it.
Result<Json> ServiceDriver::begin_again() {
  for (int tries = 1;; ++tries) {
    UPD_ASSIGN(client_, reconnect_());
    auto answer = client_.ask("begin", {{"trace", trace_id_}, {"resumes", epoch_}});
    if (answer || !client_.broken() || tries == kReconnects) return answer;
    ::poll(nullptr, 0, static_cast<int>(kReconnectPause.count()));
  }
}

Status ServiceDriver::resume() {
  UPD_ASSIGN(const Json answer, begin_again());
  take(answer);
  const ServiceStatus found = status_from(answer.value("candidate", Json(nullptr)));
  if (candidate_.number == 0 || active_.number == candidate_.number) return base::ok();
  if (found.number != candidate_.number || found.life == "down" || found.life == "gone")
    return Error(Code::probe_failed, "the candidate did not outlive its supervisor");
  candidate_.life = found.life;
  ready_ = ready_ || found.life == "ready";
  return base::ok();
}

Result<Json> ServiceDriver::ask(const std::string& op, Json fields, int descriptor) {
  fields["epoch"] = epoch_;
  auto answer = client_.ask(op, fields, descriptor);
  // Whether a start was done nobody can tell: it is not asked for twice.
  if (answer || !client_.broken() || op == "start") return answer;
  UPD_TRY(resume());
  fields["epoch"] = epoch_;
  if (descriptor >= 0 && ::lseek(descriptor, 0, SEEK_SET) != 0)
    return base::system_error(errno, "cannot rewind a memfd");
  return client_.ask(op, std::move(fields), descriptor);
}

Result<std::optional<Json>> ServiceDriver::next_news(base::Milliseconds span,
                                                     base::Interrupt* interrupt) {
  resumed_ = false;
  auto news = client_.next_news(span, interrupt);
  if (news || !client_.broken()) return news;
  UPD_TRY(resume());
  resumed_ = true;
  return std::optional<Json>();
}

Status ServiceDriver::start(const release::ResolvedService& run, const RoomWish& room) {
  UPD_ASSIGN(const std::string text, release::resolved_service_to_json(run, Code::internal));
  const base::Deadline end = base::Deadline::in(kRoomPatience);
  Json answer;
  for (bool first = true;; first = false) {
    UPD_ASSIGN(const base::UniqueFd descriptor, service::text_descriptor(text));
    UPD_ASSIGN(answer,
               ask("start", {{"end_oldest", first && room.end_oldest ? 1 : 0}}, descriptor.get()));
    if (!answer.value("generation", Json(nullptr)).is_null()) break;
    const std::string why = std::to_string(answer.value("living", 0)) +
                            " generations live, the oldest is " +
                            answer.value("oldest", std::string("not draining")) + " with " +
                            std::to_string(answer.value("busy", 0)) + " busy connections";
    if (first && room.waiting) room.waiting(why);
    UPD_TRY(wait_for_room(end, why, room.interrupt));
  }
  candidate_ = {answer.value("generation", std::uint64_t{0}), run.version, "starting"};
  if (policy_) salt_ = policy_->salt();
  ready_ = false;
  going_back_ = false;  // of a candidate that somebody else had left
  return base::ok();
}

Status ServiceDriver::wait_for_room(const base::Deadline& end, const std::string& why,
                                    base::Interrupt* interrupt) {
  for (;;) {
    if (interrupt != nullptr && interrupt->requested())
      return Error(Code::interrupted, "stopped while old generations were draining");
    if (end.passed())
      return Error(Code::busy, "old generations still drain: " + why)
          .expected("one of them to end within " + base::format_duration(kRoomPatience))
          .hint("apply with --end-oldest, or a shorter service.drain_timeout");
    UPD_ASSIGN(const auto news, next_news(end.left(), interrupt));
    if (news && news->value("life", std::string()) == "gone") return base::ok();
    if (news) UPD_TRY(hear(*news));
    // a supervisor that died may have told nobody: its successor is asked
    if (!news && resumed_) return base::ok();
  }
}

Status ServiceDriver::hear(const Json& news) {
  const std::string kind = news.value("news", std::string());
  if (kind == "order") return hear_order(news);
  if (kind == "lease_lost" && !going_back_)
    return Error(Code::probe_failed, "the lease of the candidate's traffic ran out");
  if (kind != "generation" || news.value("number", std::uint64_t{0}) != candidate_.number)
    return base::ok();
  candidate_.life = news.value("life", std::string());
  if (candidate_.life == "ready") ready_ = true;
  if (candidate_.life == "failed")
    return Error(Code::probe_failed, news.value("problem", std::string("the candidate failed")));
  return base::ok();
}

// Told again by a successor that does not know what was taken.
Status ServiceDriver::hear_order(const Json& news) {
  OperatorOrder order{news.value("id", std::uint64_t{0}), news.value("order", std::string()),
                      news.value("actor", std::string())};
  const bool is_new = order.id > last_order_;
  last_order_ = std::max(last_order_, order.id);
  static_cast<void>(ask("order_taken", {{"order_id", order.id}}));
  if (going_back_ || !is_new) return base::ok();
  if (order.word == "abort")
    return Error(Code::aborted, "the deployment was aborted by " + order.actor);
  if (orders_.size() < kMaxOrders) orders_.push_back(std::move(order));
  return base::ok();
}

std::vector<OperatorOrder> ServiceDriver::take_orders() {
  std::vector<OperatorOrder> taken(std::make_move_iterator(orders_.begin()),
                                   std::make_move_iterator(orders_.end()));
  orders_.clear();
  return taken;
}

Result<Json> ServiceDriver::measure(bool thorough) {
  return ask("measure", {{"thorough", thorough}});
}

std::string ServiceDriver::output_of_candidate() {
  const auto answer = ask("output", {{"generation", candidate_.number}});
  return answer ? answer->value("output", std::string()) : std::string();
}

void ServiceDriver::tell_progress(Json progress) {
  static_cast<void>(ask("progress", {{"progress", std::move(progress)}}));
}

Status ServiceDriver::wait_active(base::Milliseconds patience) {
  const base::Deadline end = base::Deadline::in(patience);
  std::string problem;
  for (int failures = 0; failures < kActiveStarts;) {
    const auto status = ask("status");
    if (!status) return base::ok();  // no answer is no verdict: the probes decide
    const std::uint64_t number = status->value("active", std::uint64_t{0});
    if (number == 0) return base::ok();
    for (const Json& one : status->value("generations", Json::array()))
      if (one.value("number", std::uint64_t{0}) == number && one.value("state", "") == "ready")
        return base::ok();
    if (end.passed()) break;
    const auto heard = next_news(std::min(end.left(), kLookAtActive), nullptr);
    if (!heard) return base::ok();
    const std::optional<Json>& news = *heard;
    if (!news || news->value("number", std::uint64_t{0}) != number) continue;
    if (news->value("life", std::string()) != "failed") continue;
    problem = news->value("problem", std::string());
    ++failures;
  }
  return Error(Code::timed_out, "the release before does not come up again")
      .expected("ready within " + base::format_duration(patience))
      .got(problem.empty() ? "nothing" : problem);
}

Status ServiceDriver::wait_ready(base::Milliseconds patience, base::Interrupt* interrupt) {
  const base::Deadline end = base::Deadline::in(patience);
  while (!ready_) {
    if (interrupt != nullptr && interrupt->requested())
      return Error(Code::interrupted, "stopped while the candidate was starting");
    if (end.passed()) return Error(Code::timed_out, "the supervisor says nothing of the candidate");
    UPD_ASSIGN(const auto news, next_news(end.left(), interrupt));
    if (news) UPD_TRY(hear(*news));
  }
  return base::ok();
}

Status ServiceDriver::mark_ready() {
  UPD_TRY(ask("ready", {{"generation", candidate_.number}}));
  return base::ok();
}

Status ServiceDriver::set_weight(std::uint16_t weight) {
  UPD_TRY(ask("weight", {{"weight", weight}}));
  weighted_ = renews_ = weight > 0;
  renewed_us_ = base::monotonic_now_us();
  return base::ok();
}

Status ServiceDriver::confirm() {
  UPD_TRY(tick());
  UPD_TRY(ask("renew"));
  renewed_us_ = base::monotonic_now_us();
  return base::ok();
}

Status ServiceDriver::commit() {
  const auto done = ask("commit");
  weighted_ = false;
  // a supervisor that died after it had done so
  if (done || (candidate_.number != 0 && active_.number == candidate_.number)) return base::ok();
  return done.error();
}

Status ServiceDriver::roll_back(const std::string& reason,
                                const std::optional<release::ResolvedService>& again) {
  candidate_ = ServiceStatus();
  renews_ = false;  // whatever becomes of this
  going_back_ = true;
  base::UniqueFd descriptor;
  if (again) {
    UPD_ASSIGN(const std::string text, release::resolved_service_to_json(*again, Code::internal));
    UPD_ASSIGN(descriptor, service::text_descriptor(text));
  }
  UPD_TRY(ask("rollback", {{"reason", reason}}, descriptor.get()));
  weighted_ = false;
  return base::ok();
}

void ServiceDriver::withdraw() {
  if (!std::exchange(renews_, false)) return;  // there is no share, or it was taken back
  if (policy_) policy_->end_lease(salt_);
  base::failpoint::hit("deploy.lease_ended");
  static_cast<void>(ask("weight", {{"weight", 0}}));
}

Status ServiceDriver::listen(base::Milliseconds span, base::Interrupt* interrupt) {
  UPD_ASSIGN(const auto news, next_news(span, interrupt));
  return news ? hear(*news) : base::ok();
}

Status ServiceDriver::end() {
  going_back_ = true;
  UPD_TRY(ask("end"));
  return base::ok();
}

Status ServiceDriver::tick() {
  for (;;) {
    UPD_ASSIGN(const auto news, next_news(base::Milliseconds(0), nullptr));
    if (!news) break;
    UPD_TRY(hear(*news));
  }
  if (!weighted_ || !renews_ || base::monotonic_now_us() - renewed_us_ < kRenewEvery.count() * 1000)
    return base::ok();
  UPD_TRY(ask("renew"));
  renewed_us_ = base::monotonic_now_us();
  return base::ok();
}

base::Milliseconds ServiceDriver::lease_left() const {
  if (!weighted_) return base::Milliseconds(0);
  const std::int64_t since_us = base::monotonic_now_us() - renewed_us_;
  return std::max(service::kLease - base::Milliseconds(since_us / 1000), base::Milliseconds(0));
}

health::Steer ServiceDriver::steer(std::uint64_t generation) {
  return [this, generation](int fd, const sockaddr* to) -> Result<std::function<void()>> {
    if (to->sa_family != AF_INET && to->sa_family != AF_INET6) return std::function<void()>();
    UPD_TRY(bind_source(fd, to));
    UPD_ASSIGN(const listen::Address source, address_of(fd, ::getsockname));
    UPD_ASSIGN(const Json answer,
               ask("probe", {{"generation", generation}, {"source", source.text()}}));
    if (!answer.contains("entry") || answer["entry"].is_null()) return std::function<void()>();
    const auto entry = answer["entry"].get<std::uint64_t>();
    return std::function<void()>(
        [this, entry] { static_cast<void>(ask("probe_end", {{"entry", entry}})); });
  };
}

Result<std::vector<ListensAt>> ServiceDriver::listens_at(std::uint64_t generation) {
  UPD_ASSIGN(const Json status, ask("status"));
  for (const Json& one : status.value("generations", Json::array()))
    if (one.value("number", std::uint64_t{0}) == generation) return listens_at_from(one);
  return Error(Code::not_found, "generation " + std::to_string(generation) + " is gone");
}

bool was_accepted(int fd) {
  const auto client = address_of(fd, ::getsockname);
  const auto server = address_of(fd, ::getpeername);
  if (!client || !server) return false;
  const auto answer = listen::acceptance(*server, *client);
  return answer && *answer == listen::Acceptance::accepted;
}

}  // namespace updagent::deploy
