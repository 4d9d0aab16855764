// What was counted between two looks at the same counters.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>

namespace updagent::health {

// The value of each series, by its labels.
using CounterSet = std::unordered_map<std::string, double>;

// A counter that fell was started anew: its value counts from 0, as Prometheus' increase() has it.
double increase(double before, double after);
// Of all series together. One that was not there before counts from 0; one that is gone counts not.
double increase(const CounterSet& before, const CounterSet& after);
// One of them is less than it was.
bool fell(const CounterSet& before, const CounterSet& after);
double total(const CounterSet& counters);

// A classic histogram: the counters of each upper bound ("le"), each counting what is below it too.
using BucketSet = std::map<double, CounterSet>;
// The same of all series together.
using Buckets = std::map<double, double>;
Buckets increase(const BucketSet& before, const BucketSet& after);
bool fell(const BucketSet& before, const BucketSet& after);
Buckets total(const BucketSet& buckets);

struct Quantile {
  double value = 0;
  // It is in the last bucket, which has no end: `value` is the highest finite bound, and what was
  // looked for is that or more.
  bool at_least = false;
};
// By linear interpolation within the bucket, as PromQL's histogram_quantile(): the lowest bucket
// begins at 0 (if its bound is positive), and a bucket that counts less than the one below it
// counts as much. Nothing without a bucket for +Inf and a finite one, or when nothing was counted.
std::optional<Quantile> quantile(double q, const Buckets& buckets);
// All that was counted.
double samples(const Buckets& buckets);

}  // namespace updagent::health
