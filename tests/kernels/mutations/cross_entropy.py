"""Broken cross-entropies."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("cross_entropy.cu", "height - (A(1) - smoothing) * (logit - running.top)",
             "height - (A(1) - smoothing) * logit",
             "softmax_cross_entropy", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "return skipped ? A(0) : value;", "return value;",
             "softmax_cross_entropy", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "smoothing * (plain_sum / A(columns) - running.top)",
             "smoothing * (plain_sum - running.top)",
             "softmax_cross_entropy", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "c + j == index ? share - at_label : share",
             "c == index ? share - at_label : share",
             "softmax_cross_entropy_grad", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "A gradient = label.skipped ? A(0) : g;", "A gradient = g;",
             "softmax_cross_entropy_grad", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "if (c < kept) store_vec(copy + c, group);",
             "if (c + 1 < kept) store_vec(copy + c, group);", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "load_vec<VEC>(c < kept ? copy + c : row + c)",
             "load_vec<VEC>(copy + (c < kept ? c : 0))", "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "lse[r] = shift;", "lse[r] = height;",
             "softmax_cross_entropy_with_grad"),
    mutation("cross_entropy.cu", "mass * (height + (running.top - base)) - product",
             "height + (running.top - base) - product", "dense_cross_entropy"),
    mutation("cross_entropy.cu", "mass += to_float(goal[j]) * keep + each;",
             "mass += to_float(goal[j]) * keep;", "dense_cross_entropy_grad"),
    mutation("cross_entropy.cu", "const long long last = groups * VEC + grid_start<long long>();",
             "const long long last = groups * VEC + 1 + grid_start<long long>();",
             "sigmoid_cross_entropy"),
]  # fmt: skip
