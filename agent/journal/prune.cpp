#include <algorithm>

#include "agent/base/clock.hpp"
#include "agent/journal/chain.hpp"
#include "agent/journal/event_names.hpp"
#include "agent/journal/journal_impl.hpp"

namespace updagent::journal {
namespace {

using base::Result;
using base::Status;

// Removed in one transaction: other writers wait for it.
constexpr std::int64_t kMaxRowsAtOnce = 50'000;
// A time further ahead than this came from a clock that was wrong. It must not keep all events
// after it for ever.
constexpr std::int64_t kClockSlackUs = 24LL * 3600 * 1'000'000;

struct Cut {
  std::int64_t oldest = 0;  // 0: there are no events
  std::int64_t first_kept = 0;
};

// In the order of the chain, so reading stops at the first one that is new enough.
Result<std::int64_t> first_newer(Database& database, std::int64_t before_us) {
  UPD_ASSIGN(Statement first,
             database.prepare("SELECT event_id FROM events WHERE +timestamp_us BETWEEN ? AND ?"
                              " ORDER BY event_id LIMIT 1"));
  first.bind(1, before_us);
  first.bind(2, base::wall_now_us() + kClockSlackUs);
  UPD_ASSIGN(const bool row, first.next());
  return row ? first.integer(0) : std::int64_t{0};
}

Result<std::int64_t> first_of_open_deployments(Database& database) {
  return database.integer(
      "SELECT min(events.event_id) FROM deployments JOIN events USING (trace_id)"
      " WHERE deployments.state <> 'closed'");
}

// `keep_from`: what is before that event goes whatever its time.
Result<Cut> find_cut(Database& database, std::int64_t before_us, std::int64_t keep_from) {
  UPD_ASSIGN(const HeadProof newest, newest_event(database));
  UPD_ASSIGN(const std::int64_t oldest, oldest_event_id(database));
  UPD_ASSIGN(const std::int64_t newer, first_newer(database, before_us));
  UPD_ASSIGN(const std::int64_t open, first_of_open_deployments(database));
  Cut cut{oldest, newer == 0 ? newest.count + 1 : newer};
  cut.first_kept = std::max(cut.first_kept, keep_from);
  if (open != 0) cut.first_kept = std::min(cut.first_kept, open);
  cut.first_kept = std::min(cut.first_kept, oldest + kMaxRowsAtOnce);
  return cut;
}

// Checkpoints alone are no reason for another one: or each run would replace the one before.
Result<bool> worth_it(Database& database, const Cut& cut) {
  if (cut.oldest == 0 || cut.first_kept <= cut.oldest) return false;
  UPD_ASSIGN(Statement other,
             database.prepare("SELECT 1 FROM events WHERE event_id < ? AND event <> ? LIMIT 1"));
  other.bind(1, cut.first_kept);
  other.bind(2, kLogPruned);
  return other.next();
}

EventDraft checkpoint(const Cut& cut, std::int64_t count, const base::Digest& hash,
                      const std::string& actor) {
  EventDraft event;
  event.trace_id = new_trace_id();
  event.span_id = new_span_id();
  event.event = kLogPruned;
  event.status = "success";
  event.actor = actor;
  event.detail = {
      {"first", cut.oldest}, {"last", cut.first_kept - 1}, {"count", count}, {"hash", hash.hex()}};
  return event;
}

// Returns how many went; 0: nothing is left to remove.
Result<std::int64_t> prune_some(Journal::Impl& impl, std::int64_t before_us, std::int64_t keep_from,
                                const std::string& actor) {
  Database& database = impl.database;
  UPD_ASSIGN(Transaction transaction, impl.begin_write());
  UPD_ASSIGN(const Cut cut, find_cut(database, before_us, keep_from));
  UPD_ASSIGN(const bool worth, worth_it(database, cut));
  if (!worth) return std::int64_t{0};
  UPD_ASSIGN(const auto last_hash, hash_of(database, cut.first_kept - 1));
  if (!last_hash)
    return base::Error(base::Code::damaged, "event " + std::to_string(cut.first_kept - 1) +
                                                " is missing: nothing was pruned")
        .hint("updagent log verify");
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(database, impl.node_name));
  UPD_ASSIGN(Statement remove, database.prepare("DELETE FROM events WHERE event_id < ?"));
  remove.bind(1, cut.first_kept);
  UPD_TRY(remove.run());
  const std::int64_t count = database.changed_rows();
  UPD_TRY(chain.append(checkpoint(cut, count, *last_hash, actor)));
  UPD_TRY(impl.commit(std::move(transaction)));
  return count;
}

}  // namespace

Result<std::int64_t> Journal::prune(std::int64_t before_us, const std::string& actor,
                                    std::int64_t keep_at_most) {
  // decided once: each checkpoint on the way is an event more
  UPD_ASSIGN(const HeadProof newest, head());
  const std::int64_t keep_from = keep_at_most > 0 ? newest.count - keep_at_most + 1 : 0;
  std::int64_t total = 0;
  for (;;) {
    UPD_ASSIGN(const std::int64_t count, prune_some(*impl_, before_us, keep_from, actor));
    if (count == 0) return total;
    total += count;
  }
}

}  // namespace updagent::journal
