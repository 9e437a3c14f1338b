"""Bootstrap intervals: of a mean over examples, and of the difference between two models."""

import numpy as np

NUM_RESAMPLES = 1000


def resampled_means(columns: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of `columns` `[M, N]` over `NUM_RESAMPLES` bootstrap resamples of the N examples.

    Returns:
      float64 `[M, NUM_RESAMPLES]`; NaN for N = 0.
    """
    num_examples = columns.shape[1]
    means = np.full((len(columns), NUM_RESAMPLES), np.nan)
    rng = np.random.default_rng(seed)
    chunk = max(1, 1_000_000 // max(num_examples, 1))  # Bounds memory at some 16 MB.
    for start in range(0, NUM_RESAMPLES if num_examples else 0, chunk):
        size = (min(chunk, NUM_RESAMPLES - start), num_examples)
        index = rng.integers(0, num_examples, size)
        for mean, values in zip(means, columns, strict=True):
            mean[start : start + chunk] = values[index].mean(axis=1)
    return means


def percentile_interval(resamples: np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of `[R]` resamples; undefined (NaN) ones are left out.

    See Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    defined = resamples[~np.isnan(resamples)]
    if defined.size == 0:
        return float('nan'), float('nan')
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def paired_bootstrap(
    values_a: np.ndarray, values_b: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Difference of the means of two models' per-example values, with its 95 % interval.

    Args:
      values_a: `[N]`, for instance the absolute age errors of model a, in years.
      values_b: `[N]`, those of model b on the same examples in the same order.
      seed: from which the resamples are drawn.

    Returns:
      `mean(values_a) - mean(values_b)` and the low and high end of its interval.

    Raises:
      ValueError: if the two are not finite `[N]` arrays of one length.
    """
    a, b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f'Paired values need one shape [N], not {a.shape} and {b.shape}.')
    if not np.isfinite(a - b).all():
        raise ValueError('Paired values must be finite: leave out examples of unknown label.')
    if a.size == 0:
        return float('nan'), float('nan'), float('nan')
    low, high = percentile_interval(resampled_means((a - b)[None], seed)[0])
    return float(np.mean(a - b)), low, high
