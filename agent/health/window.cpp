#include "agent/health/window.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace updagent::health {

double increase(double before, double after) {
  return after < before ? after : after - before;
}

double increase(const CounterSet& before, const CounterSet& after) {
  double sum = 0;
  for (const auto& [series, value] : after) {
    const auto earlier = before.find(series);
    sum += increase(earlier == before.end() ? 0 : earlier->second, value);
  }
  return sum;
}

bool fell(const CounterSet& before, const CounterSet& after) {
  return std::ranges::any_of(after, [&before](const auto& series) {
    const auto earlier = before.find(series.first);
    return earlier != before.end() && series.second < earlier->second;
  });
}

double total(const CounterSet& counters) {
  return increase({}, counters);
}

Buckets increase(const BucketSet& before, const BucketSet& after) {
  Buckets sums;
  for (const auto& [bound, counters] : after) {
    const auto earlier = before.find(bound);
    sums[bound] = increase(earlier == before.end() ? CounterSet() : earlier->second, counters);
  }
  return sums;
}

bool fell(const BucketSet& before, const BucketSet& after) {
  return std::ranges::any_of(after, [&before](const auto& bucket) {
    const auto earlier = before.find(bucket.first);
    return earlier != before.end() && fell(earlier->second, bucket.second);
  });
}

Buckets total(const BucketSet& buckets) {
  return increase({}, buckets);
}

double samples(const Buckets& buckets) {
  return buckets.empty() ? 0 : buckets.rbegin()->second;
}

std::optional<Quantile> quantile(double q, const Buckets& buckets) {
  if (buckets.size() < 2 || !std::isinf(buckets.rbegin()->first)) return std::nullopt;
  double all = 0;
  for (const auto& [bound, count] : buckets) all = std::max(all, count);
  if (all <= 0) return std::nullopt;
  const double rank = q * all;
  double lower = 0;
  double below = 0;
  const auto last = std::prev(buckets.end());
  for (auto bucket = buckets.begin(); bucket != last; ++bucket) {
    const double upper = bucket->first;
    const double count = std::max(below, bucket->second);
    if (count >= rank) {
      // a lowest bucket of negative bounds has no beginning to interpolate from
      if (count <= below || (bucket == buckets.begin() && upper <= 0))
        return Quantile{upper, false};
      return Quantile{lower + (upper - lower) * (rank - below) / (count - below), false};
    }
    lower = upper;
    below = count;
  }
  return Quantile{std::prev(last)->first, true};
}

}  // namespace updagent::health
