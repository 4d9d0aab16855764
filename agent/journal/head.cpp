#include "agent/journal/head.hpp"

#include "agent/base/file_lock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/journal/chain.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr std::size_t kMaxHeadBytes = 4096;  // a count and 64 digits
constexpr mode_t kHeadMode = 0644;  // it says nothing about a deployment, and is meant to be copied
// Writers hold it for one small file; whoever waits longer leaves the head to the next event.
constexpr base::Milliseconds kLockWait{2000};

Error unreadable(const std::string& path) {
  return Error(Code::damaged, "'" + path + "' can't be understood")
      .expected("{\"count\":N,\"hash\":\"64 hex digits\"}");
}

// Whether the database still holds what the head says: it is only then safe to replace it.
Result<bool> agrees(const HeadProof& head, Database& database) {
  if (head.count == 0) return true;
  UPD_ASSIGN(const auto hash, hash_of(database, head.count));
  if (hash) return *hash == head.hash;
  UPD_ASSIGN(const std::int64_t oldest, oldest_event_id(database));
  return head.count < oldest;  // pruned since
}

// Nothing: another has it and there is no time to wait.
Result<std::optional<base::FileLock>> take_lock(const std::string& path, bool may_wait) {
  // mostly free; waiting costs an inotify instance, of which a node may have run out
  UPD_ASSIGN(auto lock, base::FileLock::try_take(path));
  if (lock || !may_wait) return lock;
  UPD_ASSIGN(lock, base::FileLock::take(path, kLockWait, nullptr));
  return lock;
}

Status write_head(const std::string& path, const HeadProof& head) {
  const base::Json content{{"count", head.count}, {"hash", head.hash.hex()}};
  return base::write_file_durably(path, content.dump() + "\n", kHeadMode);
}

}  // namespace

std::string head_lock_path(const std::string& head_path) {
  return head_path + ".lock";
}

Result<std::optional<HeadProof>> read_head(const std::string& path) {
  if (!base::exists(path)) return std::optional<HeadProof>();
  UPD_ASSIGN(const std::string text, base::read_file(path, kMaxHeadBytes));
  const auto content = base::parse_strict_json(text, Code::damaged, path);
  if (!content || !content->is_object()) return unreadable(path);
  const auto count = content->find("count");
  const auto hash = content->find("hash");
  if (count == content->end() || !count->is_number_integer() || hash == content->end() ||
      !hash->is_string())
    return unreadable(path);
  const auto digest = base::Digest::from_hex(hash->get_ref<const std::string&>());
  const auto number = count->get<std::int64_t>();
  if (!digest || number < 0) return unreadable(path);
  return std::optional<HeadProof>(HeadProof{number, *digest});
}

Status make_first_head(const std::string& path) {
  if (base::exists(path)) return base::ok();
  return write_head(path, HeadProof{});
}

Status advance_head(const std::string& path, Database& database, bool may_wait) {
  UPD_ASSIGN(const auto lock, take_lock(head_lock_path(path), may_wait));
  if (!lock) return base::ok();
  UPD_ASSIGN(const auto old, read_head(path));
  // read under the lock, so that an older one never follows a newer one
  UPD_ASSIGN(const HeadProof newest, newest_event(database));
  if (old) {
    UPD_ASSIGN(const bool fits, agrees(*old, database));
    if (!fits)
      return Error(Code::damaged,
                   "'" + path + "' names event " + std::to_string(old->count) +
                       ", which the journal does not hold like that: it stays as evidence")
          .hint("updagent log verify; when you know why, move the file away");
    if (old->count >= newest.count) return base::ok();
  }
  return write_head(path, newest);
}

}  // namespace updagent::journal
