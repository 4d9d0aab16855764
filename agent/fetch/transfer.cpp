#include "agent/fetch/transfer.hpp"

#include <algorithm>
#include <utility>

#include "agent/base/clock.hpp"
#include "agent/base/text.hpp"

namespace updagent::fetch {
namespace {

constexpr std::int64_t kReportIntervalUs = 100'000;  // what an eye can follow

constexpr int kOk = 200;
constexpr int kPartialContent = 206;
constexpr int kNotModified = 304;
constexpr int kRangeNotSatisfiable = 416;

}  // namespace

Transfer::Transfer(const Request& request, PartFile part)
    : request_(request),
      part_(std::move(part)),
      resumed_from_(part_.length()),
      farthest_(part_.length()) {}

Conditions Transfer::next_conditions() {
  was_whole_ = part_.is_whole();
  confirmed_ = false;
  is_part_ = false;
  failure_.reset();
  error_.reset();
  Conditions conditions;
  const Version& version = part_.version();
  if (!version.has_validator()) return conditions;
  if (was_whole_) {
    conditions.if_none_match = version.etag;
    conditions.if_modified_since = version.last_modified;
  } else if (part_.length() > 0) {
    conditions.from = part_.length();
    conditions.if_range = version.etag.empty() ? version.last_modified : version.etag;
  }
  return conditions;
}

// --- the answer ---------------------------------------------------------------------------------

bool Transfer::on_response(const ResponseHead& head) {
  const std::string& encoding = head.content_encoding;
  const bool is_file = head.status == kOk || head.status == kPartialContent;
  if (is_file && !encoding.empty() && encoding != "identity")
    return check(base::Error(base::Code::fetch_failed, "the server sends the file in another form")
                     .expected("no Content-Encoding")
                     .got(encoding)
                     .hint("let the server send release files as they are"));
  switch (head.status) {
    case kOk:
      return take_whole(head);
    case kPartialContent:
      return take_rest(head);
    case kNotModified:
      return confirm_unchanged(head);
    case kRangeNotSatisfiable:
      return range_refused(head);
    default:
      failure_ = failure_of_status(head.status, head.retry_after, base::wall_now_us());
      return false;
  }
}

bool Transfer::take_whole(const ResponseHead& head) {
  const Version version = version_of(head);
  // It ignores If-None-Match, but a strong entity tag says that these are the bytes we have.
  if (was_whole_ && !version.etag.empty() && version.etag == part_.version().etag &&
      version.total == part_.version().total)
    return confirmed();
  if (version.total && !check_size(*version.total, true)) return false;
  resumed_from_ = 0;
  head_is_current_ = false;
  end_is_certain_ = version.total.has_value() || head.body_has_an_end;
  if (!check(part_.start_over(version))) return false;
  return !version.total || check(part_.require_space(*version.total));
}

bool Transfer::take_rest(const ResponseHead& head) {
  if (const auto reason = why_not_the_rest(head)) return begin_again(*reason);
  const auto range = parse_content_range(head.content_range);
  is_part_ = true;
  if (range && range->total) {
    if (!check_size(*range->total, true)) return false;
    if (!part_.version().total && !check(part_.set_total(*range->total))) return false;
    if (!check(part_.require_space(*range->total - part_.length()))) return false;
  }
  return offer_head(false);
}

// Nothing: the answer continues what we have.
std::optional<std::string> Transfer::why_not_the_rest(const ResponseHead& head) const {
  const Version& have = part_.version();
  const auto range = parse_content_range(head.content_range);
  if (was_whole_ || part_.length() == 0) return "a part of the file that was not asked for";
  if (!range || !range->first)
    return "a part without a usable Content-Range ('" + head.content_range + "')";
  if (*range->first != part_.length())
    return "a part from byte " + std::to_string(*range->first) + " instead of " +
           std::to_string(part_.length());
  if (have.total && range->total && *have.total != *range->total)
    return "a part of a file of " + std::to_string(*range->total) + " bytes instead of " +
           std::to_string(*have.total);
  if (head.content_length && *head.content_length != *range->last - *range->first + 1)
    return "a part whose Content-Length and Content-Range differ";
  if (!have.etag.empty() && head.etag != have.etag) return "a part of another version (ETag)";
  // RFC 9110 15.3.7 lets a server leave Last-Modified out of a part
  if (have.etag.empty() && !head.last_modified.empty() && head.last_modified != have.last_modified)
    return "a part of another version (Last-Modified)";
  return std::nullopt;
}

bool Transfer::confirm_unchanged(const ResponseHead& head) {
  const std::string& etag = part_.version().etag;
  if (was_whole_ && (head.etag.empty() || etag.empty() || head.etag == etag)) return confirmed();
  return begin_again("HTTP 304 for what we do not have");
}

// Nothing lies past the end of what we have: either that is all, or the file is another one.
bool Transfer::range_refused(const ResponseHead& head) {
  const auto range = parse_content_range(head.content_range);
  const Version& have = part_.version();
  const bool same_etag = head.etag.empty() || have.etag.empty() || head.etag == have.etag;
  const bool ends_here = range && range->total == part_.length() && !range->first;
  if (part_.length() == 0 || !ends_here || !same_etag ||
      (have.total && *have.total != part_.length()))
    return begin_again("HTTP 416: the file is another one now");
  if (!have.total && !check(part_.set_total(part_.length()))) return false;
  return confirmed();
}

bool Transfer::on_bytes(std::string_view bytes) {
  const auto total = part_.version().total;
  if (total && bytes.size() > *total - part_.length())
    return begin_again("more bytes than the server had announced");
  if (!check_size(part_.length() + bytes.size(), false)) return false;
  const std::uint64_t before = part_.length();
  const bool appended = check(part_.append(bytes));
  if (part_.length() > before) downloaded_ += part_.length() - before;
  farthest_ = std::max(farthest_, part_.length());
  return appended && offer_head(false);
}

bool Transfer::check(base::Status status) {
  if (status) return true;
  error_ = std::move(status).error();
  return false;
}

bool Transfer::begin_again(const std::string& reason) {
  // With nothing on disk there is nothing to drop: asking again at once would be a tight loop.
  const bool had_bytes = part_.length() > 0;
  failure_ = Failure();
  failure_->remedy = had_bytes ? Remedy::start_over : Remedy::wait_for_server;
  failure_->problem = base::printable("the server sent " + reason);
  resumed_from_ = 0;
  head_is_current_ = false;
  check(part_.start_over(Version()));
  return false;
}

bool Transfer::confirmed() {
  confirmed_ = true;
  end_is_certain_ = true;
  return false;
}

bool Transfer::check_size(std::uint64_t bytes, bool is_all) {
  if (bytes <= request_.limits.max_bytes) return true;
  error_ = base::Error(base::Code::too_large, "the artifact is larger than this node allows")
               .expected("at most " + base::human_bytes(request_.limits.max_bytes))
               .got(base::human_bytes(bytes) + (is_all ? "" : " or more"))
               .hint("raise max_artifact_bytes in [fetch] of node.toml if it is meant to be");
  // not worth its space: the next run would end the same way
  const auto discarded = part_.discard();
  static_cast<void>(discarded);
  return false;
}

// --- the first bytes ----------------------------------------------------------------------------

bool Transfer::offer_head(bool at_end) {
  if (head_is_current_ || !request_.on_head) return true;
  if (!at_end && part_.length() < request_.head_bytes) return true;
  head_is_current_ = true;
  auto head = part_.head(request_.head_bytes);
  if (!head) return check(std::move(head).error());
  // a start from zero most often brings the same bytes again: they were judged already
  if (head_offered_ && offered_head_ == *head) return true;
  head_offered_ = true;
  offered_head_ = std::move(*head);
  auto goes_on = request_.on_head(offered_head_);
  if (!goes_on) return check(std::move(goes_on).error());
  stopped_early_ = !*goes_on;
  return *goes_on;
}

// --- the end of an attempt ----------------------------------------------------------------------

AttemptEnd Transfer::end_of_attempt(Exchange exchange) {
  if (confirmed_) return completed();
  // What a killed process or a reboot would have to fetch again otherwise.
  if (!error_ && !failure_) check(part_.checkpoint());
  if (error_) return {Ending::failed, {}, std::move(error_)};
  if (stopped_early_) return {Ending::stopped_early, {}, {}};
  if (exchange.interrupted)
    return {Ending::failed, {}, base::Error(base::Code::interrupted, "stopped while fetching")};
  if (failure_) return settle_failure(std::move(*failure_));
  if (exchange.failure) return settle_failure(std::move(*exchange.failure));
  const auto total = part_.version().total;
  const bool is_all = total ? *total == part_.length() : !is_part_;
  if (total && is_all) end_is_certain_ = true;
  if (is_all) return completed();
  Failure more;  // a server may send less of a range than was asked for
  more.remedy = Remedy::ask_on;
  more.problem = "the answer ended at " + std::to_string(part_.length()) + " of " +
                 (total ? std::to_string(*total) : "an unknown number of") + " bytes";
  return settle_failure(std::move(more));
}

AttemptEnd Transfer::settle_failure(Failure failure) {
  if (failure.remedy != Remedy::give_up) return {Ending::again, std::move(failure), {}};
  base::Error error = base::Error(failure.code, failure.problem).hint(failure.hint);
  return {Ending::failed, {}, std::move(error)};
}

AttemptEnd Transfer::completed() {
  // the limit may have been lowered since an earlier run left the file
  const bool good =
      check_size(part_.length(), true) &&
      (part_.version().total || !end_is_certain_ || check(part_.set_total(part_.length()))) &&
      check(part_.checkpoint()) && offer_head(true);
  if (good) return {Ending::whole, {}, {}};
  if (error_) return {Ending::failed, {}, std::move(error_)};
  return {Ending::stopped_early, {}, {}};
}

// --- progress -----------------------------------------------------------------------------------

void Transfer::on_tick() {
  const std::int64_t now_us = base::monotonic_now_us();
  if (now_us - reported_us_ < kReportIntervalUs) return;
  reported_us_ = now_us;
  report(Waiting::none, base::Milliseconds(0), "");
}

void Transfer::report(Waiting waiting, base::Milliseconds retry_in, const std::string& problem) {
  if (!request_.on_progress) return;
  request_.on_progress(
      {part_.length(), part_.version().total, resumed_from_, waiting, retry_in, problem});
}

}  // namespace updagent::fetch
