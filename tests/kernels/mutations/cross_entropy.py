"""Broken cross-entropies."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("cross_entropy.cu", "height - (A(1) - weight) * (to_float(row[label]) - running.top)",
             "height - (A(1) - weight) * to_float(row[label])", "softmax_cross_entropy"),
    mutation("cross_entropy.cu", "has_ignored && label == ignored ? A(0) : value",
             "value", "softmax_cross_entropy"),
    mutation("cross_entropy.cu", "weight * (plain_sum / A(columns) - running.top)",
             "weight * (plain_sum - running.top)", "softmax_cross_entropy"),
    mutation("cross_entropy.cu", "c + j == label ? share - at_label : share",
             "c == label ? share - at_label : share", "softmax_cross_entropy_grad"),
    mutation("cross_entropy.cu", "A gradient = skipped ? A(0) : to_float(g[r]);",
             "A gradient = to_float(g[r]);", "softmax_cross_entropy_grad"),
    mutation("cross_entropy.cu", "mass * (height + (running.top - base)) - product",
             "height + (running.top - base) - product", "dense_cross_entropy"),
    mutation("cross_entropy.cu", "mass += to_float(goal[j]) * keep + each;",
             "mass += to_float(goal[j]) * keep;", "dense_cross_entropy_grad"),
    mutation("cross_entropy.cu", "const long long last = groups * VEC + grid_start<long long>();",
             "const long long last = groups * VEC + 1 + grid_start<long long>();",
             "sigmoid_cross_entropy"),
]  # fmt: skip
