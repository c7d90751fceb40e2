"""Broken copies of rows."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("copy.cu", "const W* place = from + row_start(r, n1, n2, a0, a1, a2) + c * step;",
             "const W* place = from + row_start(r, n1, n2, b0, b1, b2) + c * step;",
             "concatenate", "stack"),
    mutation("copy.cu", "store_vec<1>(to + row_start(r, n1, n2, b0, b1, b2) + c,",
             "store_vec<1>(to + row_start(r, n1, n2, a0, a1, a2) + c,", "concatenate", "stack"),
    mutation("copy.cu", "c < p + m)", "c < p + m - 1)", "pad"),
    mutation("copy.cu", "((i0 * m1 + i1) * m2 + i2) * m + c - p",
             "((i0 * m2 + i1) * m1 + i2) * m + c - p", "pad"),
]  # fmt: skip
