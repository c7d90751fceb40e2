"""Counts of the samples whose score is above each of several thresholds, for metrics."""

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.trace import Symbol

__all__: list[str] = []  # a primitive for `gpunet.metrics`; `keras.ops` has no such name

threshold_counts = Primitive(
    "threshold_counts(scores, positives, negatives, *, thresholds) -> true, false"
)


@threshold_counts.infer
def _(scores, positives, negatives, thresholds):
    shape = (len(thresholds), *scores.shape[1:])
    return Symbol(shape, positives.dtype), Symbol(shape, negatives.dtype)


@threshold_counts.array
def _(xp, scores, positives, negatives, thresholds):
    """Sums, for every threshold, the weights of the scores above it.

    Scores of shape `(n,)` or `(n, labels)`; results `(thresholds,)` or `(thresholds, labels)`. Each
    score is put where it belongs between the sorted thresholds; then sums from the top.
    """
    count, labels = len(thresholds), int(np.prod(scores.shape[1:]))
    order = np.argsort(thresholds, kind="stable")
    sorted_thresholds = xp.asarray(np.asarray(thresholds)[order].astype(scores.dtype))
    below = xp.searchsorted(sorted_thresholds, scores.reshape(-1, labels), side="left")
    places = (below + xp.arange(labels) * (count + 1)).reshape(-1)
    results = []
    for weights in (positives, negatives):
        flat = weights.reshape(-1).astype(np.float64)
        sums = xp.bincount(places, flat, minlength=labels * (count + 1))
        above = xp.cumsum(sums.reshape(labels, count + 1)[:, :0:-1], axis=1)[:, ::-1]
        unsorted = xp.empty((count, labels), weights.dtype)
        unsorted[xp.asarray(order)] = above.T
        results.append(unsorted.reshape(count, *scores.shape[1:]))
    return tuple(results)
