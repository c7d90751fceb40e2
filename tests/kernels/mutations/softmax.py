"""Broken softmaxes."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("softmax.cu", "const A total = sum > A(0.5) || sum != sum ? sum : A(0.5);  // at",
             "const A total = sum;  // at", "softmax", "log_softmax"),
    mutation("softmax.cu", "    top = row_reduce<WIDTH>(top, Max());\n", "", "softmax"),
    mutation("softmax.cu", "    running.template combine<BLOCK>();\n", "",
             "softmax", "log_softmax"),
    mutation("softmax.cuh", "    sum *= exp(top - greatest);\n", "", "softmax"),
    mutation("softmax.cu",
             "log_of ? gradient[i] - exp(value[i]) * sum : value[i] * (gradient[i] - sum)",
             "log_of ? gradient[i] - exp(value[i]) : value[i] * gradient[i] - sum",
             "softmax_grad", "log_softmax_grad"),
    mutation("softmax.cu", "    sum = block_sum<BLOCK>(sum);\n", "",
             "softmax_grad", "log_softmax_grad"),
    mutation("row.cuh", "const int c = i * WIDTH + lane * VEC;",
             "const int c = (i + lane) * VEC;", "softmax", "softmax_grad"),
]  # fmt: skip
