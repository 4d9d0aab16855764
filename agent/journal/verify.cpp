#include <optional>

#include "agent/base/strict_json.hpp"
#include "agent/journal/chain.hpp"
#include "agent/journal/event_names.hpp"
#include "agent/journal/head.hpp"
#include "agent/journal/journal_impl.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Result;
using base::Status;

constexpr std::string_view kHeadFile = "audit.head";

std::string event_number(std::int64_t id) {
  return "event " + std::to_string(id);
}

// A head that was written down elsewhere, and what the chain says at that place.
struct Claim {
  std::string source;  // "audit.head", "the given head"
  HeadProof head;
  std::optional<base::Digest> found;
};

// Follows the chain one row at a time; the first thing that is wrong ends it.
class ChainChecker {
 public:
  explicit ChainChecker(std::vector<Claim>& claims) : claims_(claims) {}

  // "" when the row fits what came before it.
  std::string check(const StoredEvent& stored) {
    const Event& event = stored.event;
    const std::string name = event_number(event.event_id);
    if (!stored.types_fit) return name + ": a column has a type that updagent never writes";
    if (expected_hash(stored) != event.hash) return name + ": its contents don't fit its hash";
    if (count_ > 0 && event.event_id != newest_.count + 1)
      return event_number(newest_.count + 1) + " is missing: after " + event_number(newest_.count) +
             " comes " + name;
    if (count_ > 0 && event.previous != newest_.hash)
      return name + ": it does not follow " + event_number(newest_.count) +
             ": that one was replaced, or this one was put in";
    accept(stored);
    return "";
  }

  // What the first row says about the ones before it: none, or a checkpoint that fits.
  std::string check_start() const {
    if (count_ == 0) return "";
    if (first_.event_id == 1 && first_.previous == base::Digest{}) return "";
    const std::string name = event_number(first_.event_id);
    if (first_.event_id == 1) return name + ": it names an event before it";
    if (!checkpoint_)
      return name + " is the first one, and no " + std::string(kLogPruned) +
             " says where the ones before it went";
    if (checkpoint_->count != first_.event_id - 1 || checkpoint_->hash != first_.previous)
      return name + " is the first one, but the newest " + std::string(kLogPruned) + " ends with " +
             event_number(checkpoint_->count);
    return "";
  }

  std::int64_t count() const { return count_; }
  std::int64_t first_id() const { return first_.event_id; }
  const HeadProof& newest() const { return newest_; }

 private:
  void accept(const StoredEvent& stored) {
    const Event& event = stored.event;
    if (count_++ == 0) first_ = event;
    newest_ = {event.event_id, event.hash};
    for (Claim& claim : claims_)
      if (claim.head.count == event.event_id) claim.found = event.hash;
    if (event.event == kLogPruned) checkpoint_ = read_checkpoint(stored.detail);
  }

  static std::optional<HeadProof> read_checkpoint(const std::string& text) {
    const auto detail = base::parse_strict_json(text, Code::damaged, "a checkpoint");
    if (!detail || !detail->is_object()) return std::nullopt;
    const auto last = detail->find("last");
    const auto hash = detail->find("hash");
    if (last == detail->end() || !last->is_number_integer() || hash == detail->end() ||
        !hash->is_string())
      return std::nullopt;
    const auto digest = base::Digest::from_hex(hash->get_ref<const std::string&>());
    if (!digest) return std::nullopt;
    return HeadProof{last->get<std::int64_t>(), *digest};
  }

  std::vector<Claim>& claims_;
  std::int64_t count_ = 0;
  Event first_;
  HeadProof newest_;
  std::optional<HeadProof> checkpoint_;  // of the newest log.pruned: what it says was removed last
};

// Whether the chain holds what was written down elsewhere.
void compare(const Claim& claim, const ChainChecker& chain, VerifyReport& report) {
  const std::int64_t place = claim.head.count;
  const HeadProof& newest = chain.newest();
  const bool before_all = place == 0 && claim.head.hash == base::Digest{};
  if (place > newest.count) {
    report.problem = "the log was cut off: " + claim.source + " names " + event_number(place) +
                     ", the last one is " + event_number(newest.count);
  } else if (place > 0 && place < chain.first_id()) {
    report.notes.push_back(event_number(place) + " has been pruned: nothing to compare " +
                           claim.source + " with");
  } else if (!before_all && claim.found != claim.head.hash) {
    report.problem = event_number(place) + ": its hash is not the one in " + claim.source;
  } else if (claim.source == kHeadFile && place < newest.count) {
    report.notes.push_back(claim.source + " is at " + event_number(place) + " of " +
                           std::to_string(newest.count) + ": the next event brings it along");
  }
}

// Damage that no row shows: pages, indexes, free lists.
Result<std::string> file_problem(Database& database) {
  UPD_ASSIGN(Statement check, database.prepare("PRAGMA integrity_check(1)"));
  UPD_ASSIGN(const bool row, check.next());
  if (!row || check.text(0) == "ok") return std::string();
  return "the database file is damaged: " + check.text(0);
}

Result<std::string> check_rows(Database& database, ChainChecker& chain) {
  UPD_ASSIGN(Statement rows,
             database.prepare("SELECT " + event_columns() + " FROM events ORDER BY event_id"));
  for (;;) {
    UPD_ASSIGN(const bool row, rows.next());
    if (!row) return chain.check_start();
    std::string problem = chain.check(read_event(rows));
    if (!problem.empty()) return problem;
  }
}

// A page that can't be read is an answer here, not a failure.
Result<std::string> as_problem(Result<std::string> answer, const ChainChecker& chain) {
  if (answer || answer.error().code() != Code::journal_unusable) return answer;
  return "after " + event_number(chain.newest().count) + ": " + answer.error().line();
}

// A head that is there but can't be read as this user is an error; one that makes no sense, or is
// gone, is a finding.
Result<std::string> head_problem(const Result<std::optional<HeadProof>>& head,
                                 std::int64_t events) {
  if (!head && head.error().code() != Code::damaged) return head.error();
  if (!head) return head.error().line();
  if (!*head && events > 0)
    return std::string(kHeadFile) + " is missing: the end of the log can't be checked";
  return std::string();
}

}  // namespace

Result<VerifyReport> Journal::verify(const std::optional<HeadProof>& known_head) {
  VerifyReport report;
  std::vector<Claim> claims;
  // the head before the rows: what it names must be among them
  const auto head_file = read_head(impl_->paths.head);
  if (head_file && *head_file) claims.push_back({std::string(kHeadFile), **head_file, {}});
  if (known_head) claims.push_back({"the given head", *known_head, {}});

  UPD_ASSIGN(const Transaction view, Transaction::begin_read(impl_->database));
  ChainChecker chain(claims);
  auto rows_problem = check_rows(impl_->database, chain);
  UPD_ASSIGN(report.problem, as_problem(std::move(rows_problem), chain));
  report.events = chain.count();
  report.first_event = chain.first_id();
  report.head = chain.newest();
  for (const Claim& claim : claims)
    if (report.problem.empty()) compare(claim, chain, report);
  if (report.problem.empty()) {
    UPD_ASSIGN(report.problem, head_problem(head_file, report.events));
  }
  if (report.problem.empty()) {
    UPD_ASSIGN(report.problem, as_problem(file_problem(impl_->database), chain));
  }
  return report;
}

}  // namespace updagent::journal
