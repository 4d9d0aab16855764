#include "agent/fetch/fetch.hpp"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/fetch/http.hpp"
#include "agent/fetch/local_file.hpp"
#include "agent/fetch/part_file.hpp"
#include "agent/fetch/retry.hpp"
#include "agent/fetch/transfer.hpp"
#include "agent/fetch/url.hpp"

namespace updagent::fetch {
namespace {

constexpr std::int64_t kCountdownMs = 1000;  // a wait is reported this often

std::uint32_t random_number() {
  std::uint32_t number = 0;
  const std::string bytes = base::random_bytes(sizeof number);
  std::memcpy(&number, bytes.data(), std::min(sizeof number, bytes.size()));
  return number;
}

// Tries until the file is whole, or trying again can't help, or nothing new came for too long.
class Fetcher {
 public:
  Fetcher(const Request& request, Url url, PartFile part)
      : request_(request),
        url_(std::move(url)),
        client_(request.limits, request.credentials, request.interrupt),
        transfer_(request, std::move(part)) {}

  base::Result<Fetched> run() {
    UPD_TRY(client_.prepare());
    for (;;) {
      if (interrupted()) return in_context(stopped());
      const std::uint64_t farthest_before = transfer_.farthest();
      AttemptEnd end = attempt();
      if (end.ending == Ending::whole || end.ending == Ending::stopped_early)
        return hand_over(end.ending == Ending::stopped_early);
      if (end.ending == Ending::failed) return in_context(std::move(*end.error));
      const bool farther = transfer_.farthest() > farthest_before;
      if (farther) note_new_bytes();
      if (end.failure.remedy == Remedy::start_over) continue;
      if (end.failure.remedy == Remedy::ask_on && farther) continue;
      ++failures_;
      if (patience_.passed()) return in_context(given_up(end.failure));
      if (!wait(end.failure)) return in_context(stopped());
    }
  }

 private:
  AttemptEnd attempt() {
    const Conditions conditions = transfer_.next_conditions();
    return transfer_.end_of_attempt(client_.get(url_, conditions, transfer_));
  }

  void note_new_bytes() {
    failures_ = 0;
    patience_ = base::Deadline::in(request_.limits.give_up_after);
  }

  bool interrupted() const {
    return request_.interrupt != nullptr && request_.interrupt->requested();
  }

  // False: interrupted.
  bool wait(const Failure& failure) {
    const Waiting what =
        failure.remedy == Remedy::wait_for_server ? Waiting::server_busy : Waiting::link_lost;
    const auto deadline = base::Deadline::in(wait_before_retry(
        request_.limits, failures_, random_number(), failure.retry_after, patience_.left()));
    pollfd waiting{request_.interrupt != nullptr ? request_.interrupt->fd() : -1, POLLIN, 0};
    while (!deadline.passed()) {
      transfer_.report(what, deadline.left(), failure.problem);
      const std::int64_t slice_ms = std::min(deadline.left().count(), kCountdownMs);
      ::poll(&waiting, 1, static_cast<int>(slice_ms));
      if (interrupted()) return false;
    }
    return true;
  }

  base::Result<Fetched> hand_over(bool stopped_early) {
    transfer_.report(Waiting::none, base::Milliseconds(0), "");
    Fetched fetched;
    fetched.bytes = transfer_.part().length();
    fetched.downloaded = transfer_.downloaded();
    fetched.resumed_from = transfer_.resumed_from();
    fetched.stopped_early = stopped_early;
    fetched.end_is_certain = stopped_early || transfer_.end_is_certain();
    if (!stopped_early) {
      UPD_ASSIGN(fetched.file, std::move(transfer_.part()).hand_over());
    }
    return fetched;
  }

  base::Error given_up(const Failure& failure) const {
    return base::Error(base::Code::fetch_failed, failure.problem)
        .expected("a new byte within " + base::format_duration(request_.limits.give_up_after))
        .got("none");
  }

  base::Error stopped() const { return {base::Code::interrupted, "stopped while fetching"}; }

  // Which URL, and what is kept of it.
  base::Error in_context(base::Error error) {
    const PartFile& part = transfer_.part();
    std::string hint = error.hint();
    if (hint.empty() && part.is_resumable()) {
      hint = base::human_bytes(part.length());
      if (part.version().total) hint += " of " + base::human_bytes(*part.version().total);
      hint += " are kept: the same command goes on from there";
    }
    return std::move(error)
        .hint(std::move(hint))
        .with_context("fetching '" + redacted_url(request_.url) + "'");
  }

  const Request& request_;
  Url url_;
  HttpClient client_;
  Transfer transfer_;
  int failures_ = 0;  // in a row, without a new byte
  base::Deadline patience_ = base::Deadline::in(request_.limits.give_up_after);
};

}  // namespace

base::Error cut_download(std::string_view url, const base::Error& refusal) {
  return base::Error(base::Code::fetch_failed, "the download ended too early")
      .expected("the whole artifact, of a length that the server did not announce")
      .got(refusal.message())
      .hint("what came is kept where the server lets a later run go on: run the same command again")
      .with_context("fetching '" + redacted_url(url) + "'");
}

base::Result<Fetched> fetch(const Request& request) {
  UPD_ASSIGN(Url url, parse_url(request.url));
  if (url.scheme == "file") return open_local_file(request, url);
  UPD_ASSIGN(PartFile part, PartFile::open(request.download_directory, storage_key(url)));
  return Fetcher(request, std::move(url), std::move(part)).run();
}

}  // namespace updagent::fetch
