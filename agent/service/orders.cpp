// What operators want of a deployment that is under way: given here, logged with who gave it, and
// carried out by whoever drives. Only abort takes effect at once: users do not wait for a driver.
#include <sys/random.h>

#include <algorithm>
#include <array>

#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

constexpr std::array<std::string_view, 4> kWords = {"pause", "resume", "promote", "abort"};
constexpr std::string_view kAbort = "abort";
constexpr std::size_t kMaxActorBytes = 256;      // "uid=1000 (alice) sudo"
constexpr std::size_t kMaxProgressBytes = 4096;  // some words and numbers

}  // namespace

Result<Answer> Supervisor::op_order(const Request& request) {
  const std::string word = request.text("order");
  if (std::find(kWords.begin(), kWords.end(), word) == kWords.end())
    return Error(Code::usage, "there is no such order")
        .expected("pause, resume, promote or abort")
        .got("'" + word + "'");
  if (!deployment_ || deployment_->driver == 0 || !control_->is_open(deployment_->driver))
    return Error(Code::not_found,
                 "no deployment of '" + setup_.places.app + "' has a candidate here");
  if (deployment_->orders.size() >= kMaxOrders)
    return Error(Code::busy, "whoever drives the deployment has not taken the orders before")
        .hint("updagent status " + setup_.places.app);
  const std::uint64_t id = next_order_++;
  const std::string actor = request.text("actor").substr(0, kMaxActorBytes);
  deployment_->orders.push_back({id, word, actor, request.connection});
  if (word == kAbort) {  // users first
    deployment_->aborted_by = actor.empty() ? "an operator" : actor;
    withdraw_weight();
  }
  event("deployment.ordered", "success", candidate(), {{"order", word}, {"actor", actor}});
  save_state();
  tell_orders();
  return Answer{{"order_id", id}, {"trace_id", deployment_->trace_id}};
}

// Those that were told before are known by their number.
void Supervisor::tell_orders() {
  for (const Order& order : deployment_->orders)
    control_->tell(
        deployment_->driver,
        {{"news", "order"}, {"id", order.id}, {"order", order.word}, {"actor", order.actor}});
}

Result<Answer> Supervisor::op_order_taken(const Request& request) {
  std::vector<Order>& orders = deployment_->orders;
  const auto taken = std::find_if(orders.begin(), orders.end(), [&](const Order& order) {
    return order.id == request.number("order_id");
  });
  if (taken == orders.end()) return Answer::object();
  if (taken->asked_by != 0)
    control_->tell(taken->asked_by, {{"news", "order_taken"}, {"id", taken->id}});
  orders.erase(taken);
  save_state();
  return Answer::object();
}

Result<Answer> Supervisor::op_progress(const Request& request) {
  const auto found = request.fields.find("progress");
  if (found == request.fields.end() || !found->is_object() ||
      found->dump(-1, ' ', false, Json::error_handler_t::replace).size() > kMaxProgressBytes)
    return Error(Code::usage, "a progress is a small object");
  deployment_->progress = *found;
  return Answer::object();
}

Status Supervisor::check_weight_allowed() const {
  if (!deployment_->aborted_by.empty())
    return Error(Code::aborted, "the deployment was aborted by " + deployment_->aborted_by);
  if (deployment_->lease_lost)
    return Error(Code::timed_out, "the lease of this deployment ran out: it is rolled back");
  return base::ok();
}

// Per deployment: it is not always the same clients that go first.
Status Supervisor::renew_salt() {
  if (!policy_) return base::ok();
  std::uint64_t salt = 0;
  if (::getrandom(&salt, sizeof salt, 0) != static_cast<ssize_t>(sizeof salt))
    return base::system_error(errno, "cannot get random bytes");
  return policy_->set_salt(salt);
}

}  // namespace updagent::service
