"""Broken normalisations of channels."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("moments.cuh", "+ delta * delta * a.count * share}", "}",
             "batch_norm_train", "batch_norm_relu", "batch_norm_add_relu", "group_norm"),
    mutation("batch_norm.cu", "          count = k + 1;\n", "          count = kRows;\n",
             "batch_norm_train", "group_norm"),
    mutation("batch_norm.cu", "if (relu && value < A(0)) value = A(0);\n", "",
             "batch_norm_relu", "batch_norm_add_relu"),
    mutation("batch_norm.cu", "value += to_float(added[j]);", "value -= to_float(added[j]);",
             "batch_norm_add_relu"),
    mutation("batch_norm.cu", "factor[c] = scale[c] / sqrt(variance[c] + A(epsilon));",
             "factor[c] = scale[c] / sqrt(variance[c]);", "batch_norm_inference"),
    mutation("batch_norm.cu", "* slope[j] + shift[j];", "* slope[j];", "batch_norm_inference"),
    mutation("batch_norm.cu", "kept = to_float(result[j]) > A(0);", "kept = true;",
             "batch_norm_add_relu_grad"),
    mutation("batch_norm.cu", "const bool kept = !relu || centered * scale[j] + added[j] > A(0);",
             "const bool kept = true;", "batch_norm_relu_grad"),
    mutation("batch_norm.cu", "(A(2) * g_variance[c] - ", "(g_variance[c] - ",
             "batch_norm_grad", "batch_norm_relu_grad", "batch_norm_add_relu_grad"),
    mutation("columns.cuh", "begin + length < rows ? begin + length : rows",
             "begin + length < rows ? begin + length - 1 : rows", "batch_norm_grad"),
    mutation("columns.cuh", "      __syncthreads();\n    }\n#pragma unroll\n",
             "    }\n#pragma unroll\n", "batch_norm_train", "batch_norm_grad"),
]  # fmt: skip
