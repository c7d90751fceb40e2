"""Broken layer normalisations."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("norm.cu", "sqrt(block_sum<BLOCK>(squares) / A(columns) + A(epsilon))",
             "sqrt(block_sum<BLOCK>(squares) / A(columns - 1) + A(epsilon))", "layer_norm"),
    mutation("norm.cu", "- g_mean[r] / s)", "+ g_mean[r] / s)", "layer_norm_grad"),
]  # fmt: skip
