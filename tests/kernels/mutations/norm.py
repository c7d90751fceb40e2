"""Broken layer and RMS normalisations."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("norm.cu", "sqrt(row_reduce<WIDTH>(squares, Sum()) / A(columns) + A(epsilon))",
             "sqrt(row_reduce<WIDTH>(squares, Sum()) / A(columns - 1) + A(epsilon))",
             "layer_norm", "rms_norm", "residual_layer_norm", "residual_rms_norm"),
    mutation("norm.cu", "for (long long c = threadIdx.x; c < columns; c += BLOCK) sum += value(c);",
             "for (long long c = threadIdx.x; c < columns - 1; c += BLOCK) sum += value(c);",
             "layer_norm"),
    mutation("norm.cu", "          value[i + j] += to_float(group[j]);\n", "",
             "residual_layer_norm", "residual_rms_norm"),
    mutation("norm.cu", "if (residual != nullptr) total[start + c] = from_float<T>(t);",
             "if (residual != nullptr) total[start + c] = x[start + c];",
             "residual_layer_norm", "residual_rms_norm"),
    mutation("norm.cu", "(row_reduce<WIDTH>(second, Sum()) + g_rstd[r] * s)",
             "(row_reduce<WIDTH>(second, Sum()) - g_rstd[r] * s)",
             "layer_norm_grad", "rms_norm_grad"),
    mutation("norm.cu", "from_float<T>(g_total != nullptr ? slope + to_float(also[j]) : slope)",
             "from_float<T>(slope)", "residual_layer_norm_grad", "residual_rms_norm_grad"),
    mutation("norm.cu", "scale_sum[0] += gradient * centered * rstd[r];",
             "scale_sum[0] += gradient * centered;", "layer_norm_grad", "rms_norm_grad"),
    mutation("norm.cu", "scale_sum[i + j] += d[i + j] * hat[i + j];",
             "scale_sum[i + j] = d[i + j] * hat[i + j];", "layer_norm_grad", "rms_norm_grad"),
    mutation("row.cuh", "for (int w = 0; w < BLOCK / WIDTH; ++w) {",
             "for (int w = 0; w < BLOCK / WIDTH - 1; ++w) {", "layer_norm_grad", "rms_norm_grad"),
]  # fmt: skip
