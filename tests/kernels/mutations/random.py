"""Broken random numbers."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("philox.cuh", "low = index + 1;", "low = index;",
             "random_uniform", "random_normal", "random_truncated_normal", "random_integers",
             "dropout"),
    mutation("random.cu", "right[k] = from_float<T>(radius * sin(angle));",
             "right[k] = from_float<T>(radius * cos(angle));", "random_normal"),
    mutation("random.cu", "turn[k] = shift & step ? turn[k + step] : turn[k];", ";",
             "random_normal"),
    mutation("random.cu", "if (i + k < n) y[i + k] = value[k];",
             "if (i + k + 1 < n) y[i + k] = value[k];",
             "random_uniform", "random_truncated_normal", "random_integers"),
    mutation("random.cu", "bits.word[k] >> 43", "bits.word[k] >> 53", "random_permutation"),
    mutation("random.cu", "to_float(value[k]) * Acc<T>(scale)", "to_float(value[k])", "dropout"),
]  # fmt: skip
