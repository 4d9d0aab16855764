#include "agent/deploy/notify.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "agent/base/child_process.hpp"
#include "agent/base/detached_process.hpp"
#include "agent/base/files.hpp"
#include "agent/base/guarded_file.hpp"
#include "agent/deploy/node.hpp"
#include "agent/fetch/post.hpp"

namespace updagent::deploy {
namespace {

constexpr std::size_t kMaxTokenBytes = 16 * 1024;
constexpr base::Milliseconds kRetryPause{2'000};  // doubled each time: 2, 4, 8 s

bool wants(const config::Notification& notification, std::string_view outcome) {
  const auto& on = notification.on;
  return std::any_of(on.begin(), on.end(),
                     [&](const std::string& word) { return word == outcome || word == "any"; });
}

base::Status run_command(const config::Notification& notification, const std::string& document) {
  base::ChildSpec spec;
  spec.argv = notification.command;
  spec.environment = {std::string("PATH=") + base::kSafePath, "LANG=C.UTF-8"};
  spec.working_directory = "/";
  spec.no_new_privs = false;  // the operator's own command, from the node's configuration
  spec.time_limit = notification.timeout;
  spec.standard_input = document + "\n";
  UPD_ASSIGN(const base::ChildResult ran, base::run_child(spec, nullptr));
  if (ran.success()) return base::ok();
  return base::Error(base::Code::io_error, "the command failed").got(ran.describe(spec.time_limit));
}

base::Status post(const config::Notification& notification, const config::FetchSettings& fetch,
                  const std::string& document) {
  fetch::PostRequest request;
  request.url = notification.webhook;
  request.body = document;
  request.timeout = notification.timeout;
  request.ca_file = fetch.ca_file;
  if (!notification.bearer_token_file.empty()) {
    base::Guard guard;
    guard.forbidden = base::kOthersMayReadOrWrite;
    UPD_ASSIGN(auto token,
               base::read_guarded_file(notification.bearer_token_file, guard, kMaxTokenBytes));
    if (!token)
      return base::Error(base::Code::config_invalid,
                         "there is no token in '" + notification.bearer_token_file + "'");
    request.bearer_token = std::move(*token);
    while (!request.bearer_token.empty() && request.bearer_token.back() == '\n')
      request.bearer_token.pop_back();
  }
  return fetch::post_json(request);
}

base::Status deliver(const config::Notification& notification, const config::FetchSettings& fetch,
                     const std::string& document) {
  if (!notification.command.empty()) return run_command(notification, document);
  base::Status sent = post(notification, fetch, document);
  base::Milliseconds pause = kRetryPause;
  for (int retry = 0; !sent && retry < notification.retries; ++retry) {
    // nothing to wait for but time: the receiver is elsewhere
    const timespec wait{pause.count() / 1000, (pause.count() % 1000) * 1'000'000};
    ::nanosleep(&wait, nullptr);
    pause *= 2;
    sent = post(notification, fetch, document);
  }
  return sent;
}

void record_failure(const Context& context, const config::Settings& settings,
                    const DeployResult& result, const config::Notification& notification,
                    const base::Error& error) {
  journal::EventDraft event;
  event.trace_id = result.trace_id;
  event.span_id = journal::new_span_id();
  event.app = result.app;
  event.event = "notify.failed";
  event.status = "failure";
  event.timestamp_us = base::wall_now_us();
  event.actor = context.actor;
  event.detail = {{"notification", notification.name}, {"problem", error.line()}};
  auto journal = open_journal(context, settings);
  if (journal) static_cast<void>(journal->record(std::span(&event, 1)));
}

std::string document_with_head(const Context& context, const config::Settings& settings,
                               const std::string& document) {
  auto parsed = journal::Json::parse(document, nullptr, false);
  if (parsed.is_discarded()) return document;
  parsed["api"] = 1;
  parsed["node"] = settings.node_name;
  if (auto journal = open_journal(context, settings))
    if (const auto head = journal->head())
      parsed["audit_head"] = {{"count", head->count}, {"hash", head->hash.hex()}};
  return parsed.dump(-1, ' ', false, journal::Json::error_handler_t::replace);
}

[[noreturn]] void deliver_all(const Context& context, const config::Settings& settings,
                              const DeployResult& result, const std::string& document) {
  const std::string whole = document_with_head(context, settings, document);
  for (const config::Notification& notification : settings.notifications) {
    if (!wants(notification, outcome_name(result.outcome))) continue;
    const base::Status sent = deliver(notification, settings.fetch, whole);
    if (!sent) record_failure(context, settings, result, notification, sent.error());
  }
  ::_exit(0);
}

}  // namespace

void notify(const Context& context, const DeployResult& result, const std::string& document) {
  const auto settings = config::load(context.layout, context.config_file, result.app);
  if (!settings) return;  // the deployment's own load has said so
  const auto& all = settings->notifications;
  if (std::none_of(all.begin(), all.end(), [&](const config::Notification& notification) {
        return wants(notification, outcome_name(result.outcome));
      }))
    return;
  // Twice, so that nobody has to reap the one that delivers.
  const pid_t child = ::fork();
  if (child < 0) {
    context.observer->warning("nobody was notified: no process could be made");
    return;
  }
  if (child == 0) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    if (!base::leave_standard_streams()) ::_exit(1);
    ::close_range(3, ~0U, 0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    deliver_all(context, *settings, result, document);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace updagent::deploy
