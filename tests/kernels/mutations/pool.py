"""Broken pooling."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("pool.cu", "best[v] = Max::identity<Acc<T>>()", "best[v] = 0", "max_pool"),
    mutation("pool.cu", "if (first[v] == static_cast<I>(-1) && to_float(in[v])",
             "if (to_float(in[v])", "max_pool_grad"),
    mutation("pool.cu", "if (won[v] == static_cast<I>(tap)) sum[v]", "sum[v]", "max_pool_grad"),
    mutation("pool.cu", "found |= 1u << v;", "found |= 1u;", "max_pool_take"),
    mutation("pool.cu", "slice * width.inputs_at(w)", "slice * width.window", "average_pool"),
    mutation("pool.cu", "* width.inputs_at(pw)", "* width.window", "average_pool_grad"),
    mutation("window.cuh", "past / stride + 1", "past / stride",
             "max_pool_grad", "average_pool_grad"),
    mutation("window.cuh", "return first < 0 ? (dilation - 1 - first) / dilation : 0",
             "return first < 0 ? 1 - first : 0", "max_pool", "max_pool_take", "average_pool"),
]  # fmt: skip
