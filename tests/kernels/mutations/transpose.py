"""Broken transposes: the copies of views that cumulative sums and reductions make."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("transpose.cu", "tile[l * PITCH + p] = from", "tile[p * PITCH + l] = from",
             "cumsum"),
    mutation("transpose.cu", "p0 + p];\n      __syncthreads();", "p0 + p];", "cumsum", "sum"),
    mutation("transpose.cu", "to[(p0 + p) * y_step + l0 + l]", "to[(p0 + p) * y_step + l]",
             "cumsum", "sum"),
    mutation("transpose.cu", "row_start(b, n1, n2, a0, a1, a2)", "row_start(b, n1, n2, b0, b1, b2)",
             "sum"),
]  # fmt: skip
