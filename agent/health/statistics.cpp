#include "agent/health/statistics.hpp"

#include <algorithm>
#include <cmath>

namespace updagent::health {
namespace {

// From the mean of a binomial of a billion the terms vanish after nine standard deviations:
// 142,000.
constexpr int kMaxTerms = 1'000'000;
constexpr double kNegligible = 1e-17;  // of the sum: below what a double can add to it

// lgamma of the C library writes a global.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

// log P(X = k)
double log_term(double k, double n, double p) {
  return log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1) + k * std::log(p) +
         (n - k) * std::log1p(-p);
}

// P(X >= first) for a `first` above the mean: each term is smaller than the one before.
double upper_tail(double first, double n, double p) {
  const double odds = p / (1 - p);
  double share = 1;  // of the first term
  double sum = 0;
  for (double k = first; k <= n && k < first + kMaxTerms; ++k) {
    sum += share;
    share *= (n - k) / (k + 1) * odds;
    if (share < sum * kNegligible) break;
  }
  return std::min(1.0, std::exp(log_term(first, n, p)) * sum);
}

struct Trials {
  std::int64_t k = 0;
  std::int64_t n = 0;
};
Trials bounded(std::int64_t k, std::int64_t n) {
  if (n <= kMaxTrials) return {k, n};
  const double share = static_cast<double>(kMaxTrials) / static_cast<double>(n);
  return {std::llround(static_cast<double>(k) * share), kMaxTrials};
}

// The candidate's part of all events, at the limit.
double share_at_limit(Rate candidate, Rate active, double limit) {
  const double expected = limit * candidate.among;
  const double both = expected + active.among;
  return both > 0 ? expected / both : 0.5;
}

}  // namespace

double binomial_at_least(std::int64_t k, std::int64_t n, double p) {
  const Trials trials = bounded(k, n);
  if (trials.k <= 0) return 1;
  if (trials.k > trials.n || p <= 0) return 0;
  if (p >= 1) return 1;
  const auto from = static_cast<double>(trials.k);
  const auto all = static_cast<double>(trials.n);
  if (from > all * p) return upper_tail(from, all, p);
  // what is left of the other side: at most k-1 successes are at least n-k+1 failures
  return 1 - upper_tail(all - from + 1, all, 1 - p);
}

double binomial_at_most(std::int64_t k, std::int64_t n, double p) {
  return binomial_at_least(n - k, n, 1 - p);
}

double p_value_above(Rate candidate, Rate active, double limit) {
  return binomial_at_least(candidate.events, candidate.events + active.events,
                           share_at_limit(candidate, active, limit));
}

double p_value_below(Rate candidate, Rate active, double limit) {
  return binomial_at_most(candidate.events, candidate.events + active.events,
                          share_at_limit(candidate, active, limit));
}

}  // namespace updagent::health
