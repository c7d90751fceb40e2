"""Broken group normalisations; what they share with batch norm is in `batch_norm.py`."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("group_norm.cu", "from = (n * parts + p) * columns + channel + i % size;",
             "from = (n * parts + p) * columns + channel + i / parts;", "group_norm"),
    mutation("group_norm.cu", "k = i / columns * groups + c / size;",
             "k = i / columns * groups + c % groups;", "group_norm", "group_norm_grad"),
    mutation("group_norm.cu", "for (long long p = 0; p < parts; ++p) {",
             "for (long long p = 0; p < 1; ++p) {", "group_norm_grad"),
    mutation("group_norm.cu", "slope[start + c] = -s * s * second;",
             "slope[start + c] = -s * second;", "group_norm_grad"),
]  # fmt: skip
