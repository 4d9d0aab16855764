// How surely is one ratio worse than another? The exact binomial test, and what it is used for.
#pragma once

#include <cstdint>

namespace updagent::health {

// Counts past it are not exact in what follows; nothing that is counted in a window gets there.
inline constexpr std::int64_t kMaxTrials = 1'000'000'000;

// P(X >= k) and P(X <= k) for X ~ Binomial(n, p). The terms are summed from k away from the mean,
// the first one in logarithms by lgamma, until they no longer count: exact to about 1e-5 of the
// value at n = 1e9, to 1e-10 at a thousand. `n` is cut to kMaxTrials (k in proportion).
double binomial_at_least(std::int64_t k, std::int64_t n, double p);
double binomial_at_most(std::int64_t k, std::int64_t n, double p);

// Events among a number of requests.
struct Rate {
  std::int64_t events = 0;
  double among = 0;
};

// The conditional test of two Poisson rates (J. Przyborowski and H. Wilenski, "Homogeneity of
// results in testing samples from Poisson series", Biometrika 31, 1940): were the candidate's rate
// exactly `limit` times the active one's, then of all K events of both the candidate's would be
// Binomial(K, limit * nc / (limit * nc + na)). The value is how likely it is then that as many as
// there are, or more, are the candidate's. It needs no estimate of the rate itself, and where
// events are frequent it condemns more slowly than a test of proportions would.
double p_value_above(Rate candidate, Rate active, double limit);
// As many or fewer: for a rate that must not fall below `limit` times the other.
double p_value_below(Rate candidate, Rate active, double limit);

}  // namespace updagent::health
