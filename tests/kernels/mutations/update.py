"""Broken optimizer steps and measures of gradients."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("update.cu", "return w * keep - g * rate; }", "return w * keep + g * rate; }",
             "sgd_update", "sgd_updates"),
    mutation("update.cu", "NESTEROV ? slot[0] * momentum - move : slot[0]", "slot[0]",
             "momentum_update", "momentum_updates"),
    mutation("update.cu", "sqrt(slot[0] + epsilon)", "(sqrt(slot[0]) + epsilon)",
             "rmsprop_update", "rmsprop_updates"),
    mutation("update.cu", "-expm1(s.t * log1p(-first))", "first", "adam_update", "adam_updates"),
    mutation("update.cu", "slot[0] * beta_2 + g * rest_2", "slot[0] * beta_2 + g * rest_1",
             "lion_update", "lion_updates"),
    mutation("update.cu", "w * momentum + g * rest;", "w * rest + g * momentum;", "average_update"),
    mutation("update.cu", "scale ? *scale : A(1)", "A(1)",
             "sgd_update", "momentum_update", "rmsprop_update", "adam_update", "lion_update"),
    mutation("update.cu", "i < n; i += stride) total += F::of(to_float(x[i]));",
             "i < n - 1; i += stride) total += F::of(to_float(x[i]));",
             "sum_squares", "all_finite"),
    mutation("update.cu", "x - x == A(0) ? A(0) : A(1)", "x == x ? A(0) : A(1)", "all_finite"),
]  # fmt: skip
