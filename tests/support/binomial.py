"""Is so many of so many what chance would do? Exact tails of the binomial distribution."""

import math

# Of each side. A test that is right fails once in a million runs.
ALPHA = 1e-6


def _log_term(k, n, p):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(p) + (n - k) * math.log1p(-p))


def at_most(k, n, p):
    """P(X <= k) of n tries with probability p, 0 < p < 1."""
    return min(1.0, math.fsum(math.exp(_log_term(i, n, p)) for i in range(k + 1)))


def at_least(k, n, p):
    return 1.0 if k == 0 else at_most(n - k, n, 1 - p)


def assert_share(case, k, n, p, what=""):
    """That k of n may come from a share of p; a share of 0 and of 1 leaves nothing to chance."""
    case.assertGreater(n, 0, what)
    if p in (0, 1):
        case.assertEqual(k, n * p, what)
        return
    text = f"{what}: {k} of {n} with a share of {p}"
    case.assertGreater(at_most(k, n, p), ALPHA, f"{text}: too few")
    case.assertGreater(at_least(k, n, p), ALPHA, f"{text}: too many")
