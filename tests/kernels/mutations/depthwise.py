"""Broken depthwise and grouped convolutions: the rows with groups must notice."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("depthwise.cu", "const Vec<T, V> by = load_vec<V>(kernel + static_cast<long long>(tap)"
             " * channels + c);\n#pragma unroll\n        for (int v = 0; v < V; v++) sum[v] += "
             "to_float(in[v])",
             "const Vec<T, V> by = load_vec<V>(kernel + c);\n#pragma unroll\n"
             "        for (int v = 0; v < V; v++) sum[v] += to_float(in[v])", "conv"),
    mutation("depthwise.cu", "(static_cast<long long>(blockIdx.y) * taps + tap) * channels + c;",
             "static_cast<long long>(tap) * channels + c;", "conv_kernel_grad"),
    mutation("depthwise.cu", "(site * groups + o / filters) * channels;",
             "(site * groups + o % groups) * channels;", "conv"),
    mutation("depthwise.cu", "sum[v] += to_float(from[v]) * to_float(by[v])",
             "sum[v] = to_float(from[v]) * to_float(by[v])", "conv_input_grad"),
    mutation("depthwise.cu", "* channels + c) * groups + group) * filters",
             "* channels + c) * groups) * filters", "conv_input_grad"),
    mutation("depthwise.cu", "c = e / all % channels, tap = e / all / channels;",
             "c = e / all % filters, tap = e / all / channels;", "conv_kernel_grad"),
    mutation("window.cuh", "(stride - 1 - first) / stride", "-first / stride", "conv_kernel_grad"),
    mutation("window.cuh", "return places < count ? places : count;", "return count;",
             "conv_kernel_grad"),
    mutation("window.cuh", "return offset % dilation ? -1 : offset / dilation",
             "return offset / dilation", "conv_input_grad"),
    mutation("window.cuh", "return left > 0 ? (left + dilation - 1) / dilation : 0",
             "return left > 0 ? left / dilation : 0", "conv"),
]  # fmt: skip
