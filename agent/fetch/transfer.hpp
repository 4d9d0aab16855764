// One artifact on its way from a server into its part file: what to ask for, what to do with the
// answer, and what the end of an attempt means. All rules on mixing versions are here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/fetch/fetch.hpp"
#include "agent/fetch/http.hpp"
#include "agent/fetch/part_file.hpp"
#include "agent/fetch/retry.hpp"

namespace updagent::fetch {

enum class Ending { whole, stopped_early, again, failed };

struct AttemptEnd {
  Ending ending = Ending::failed;
  Failure failure;                   // why again
  std::optional<base::Error> error;  // why failed
};

class Transfer : public ResponseSink {
 public:
  Transfer(const Request& request, PartFile part);

  Conditions next_conditions();
  AttemptEnd end_of_attempt(Exchange exchange);

  bool on_response(const ResponseHead& head) override;
  bool on_bytes(std::string_view bytes) override;
  void on_tick() override;
  void report(Waiting waiting, base::Milliseconds retry_in, const std::string& problem);

  PartFile& part() { return part_; }
  std::uint64_t downloaded() const { return downloaded_; }
  // False: nothing but the end of the connection says that this is all.
  bool end_is_certain() const { return end_is_certain_; }
  std::uint64_t resumed_from() const { return resumed_from_; }
  // The most that was ever on disk in this run. Only bytes past it are new: a server whose answers
  // never continue one another would otherwise be asked for ever.
  std::uint64_t farthest() const { return farthest_; }

 private:
  bool take_whole(const ResponseHead& head);
  bool take_rest(const ResponseHead& head);
  bool confirm_unchanged(const ResponseHead& head);
  bool range_refused(const ResponseHead& head);
  std::optional<std::string> why_not_the_rest(const ResponseHead& head) const;

  bool check(base::Status status);  // false: noted as the error of this attempt
  bool begin_again(const std::string& reason);
  bool confirmed();
  bool check_size(std::uint64_t bytes, bool is_all);
  bool offer_head(bool at_end);
  AttemptEnd completed();
  AttemptEnd settle_failure(Failure failure);

  const Request& request_;
  PartFile part_;
  std::uint64_t downloaded_ = 0;
  std::uint64_t resumed_from_ = 0;
  std::uint64_t farthest_ = 0;
  std::int64_t reported_us_ = 0;
  std::string offered_head_;  // the bytes that on_head was last called with
  bool head_offered_ = false;
  bool head_is_current_ = false;  // it was called for the version that is coming in now

  bool end_is_certain_ = true;

  // of the current attempt
  bool was_whole_ = false;
  bool confirmed_ = false;
  bool is_part_ = false;  // the answer is one range, and others may follow it
  bool stopped_early_ = false;
  std::optional<Failure> failure_;
  std::optional<base::Error> error_;
};

}  // namespace updagent::fetch
