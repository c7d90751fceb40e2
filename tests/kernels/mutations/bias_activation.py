"""Broken biases and activations."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("bias_activation.cu", "f(to_float(group[j]) + to_float(b[j]))",
             "f(to_float(group[j]) + to_float(b[0]))", "bias_activation", "bias_smooth_activation"),
    mutation("bias_activation.cu", "        total[j] += slope;\n", "        total[j] = slope;\n",
             "bias_activation_grad", "bias_smooth_activation_grad"),
    mutation("bias_activation.cu", "const A point = INPUT ? to_float(kept[j]) + to_float(b[j]) :",
             "const A point = INPUT ? to_float(kept[j]) :", "bias_smooth_activation_grad"),
    mutation("columns.cuh", "for (int half = blockDim.y / 2; half > 0; half /= 2) {",
             "for (int half = blockDim.y / 2; half > 1; half /= 2) {",
             "bias_activation_grad", "bias_smooth_activation_grad"),
]  # fmt: skip
