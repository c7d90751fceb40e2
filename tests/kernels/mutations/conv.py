"""Broken convolutions: wrong geometry, missing barriers and waits. None leaves its arrays."""

from tests.kernels.mutations.mutation import mutation

BOTH = "conv", "conv_input_grad"
ALL = *BOTH, "conv_kernel_grad"

MUTATIONS = [
    # The pipeline: a tile is read before it is there, overwritten while it is read, or not loaded.
    mutation("conv.cuh", "cp_async_wait<kStages - 2>();", "cp_async_wait<kStages - 1>();", *ALL),
    mutation("conv.cuh", "    __syncthreads();  // the copies of all threads", "    // the copies",
             *ALL),
    mutation("conv.cuh", "(step + kStages - 1) % kStages * kPair", "(step + 1) % kStages * kPair",
             *ALL),
    mutation("conv.cuh", "    if (step + kStages - 1 < steps) operands",
             "    if (step + kStages < steps) operands", *ALL),
    # The tile of a thread.
    mutation("conv.cuh", "i / 4 * (SIZE / 2) + 4 * t + i % 4", "i / 4 * (SIZE / 2) + 4 * t + i % 2",
             "conv_kernel_grad"),
    mutation("conv.cuh", "? t + i * kAcross", "? 8 * t + i % 4", *BOTH),
    # Geometry.
    mutation("conv.cuh", "a.dilation, -a.before, a.size}", "a.dilation, a.before, a.size}", "conv"),
    mutation("conv.cuh", "outside(at.y + moves[1]", "outside(at.y - moves[1]", *ALL),
    mutation("conv.cuh", "ceil_div(a.window - first, skip)", "(a.window - first) / skip",
             "conv_input_grad"),
    mutation("conv.cuh", "ceil_div(a.size - phase, a.stride)", "a.size / a.stride",
             "conv_input_grad"),
    mutation("conv.cuh", "const int step = -skip * a.dilation / a.stride",
             "const int step = -a.dilation / a.stride", "conv_input_grad"),
    mutation("conv.cuh", "const int at = phase + a.before;", "const int at = phase - a.before;",
             "conv_input_grad"),
    mutation("conv.cuh", "while (skip * a.dilation % a.stride) ++skip;", "skip = a.stride;",
             "conv_input_grad"),
    mutation("conv.cu", "axes[1].first_tap + tap1 * axes[1].tap_skip", "axes[1].first_tap + tap1",
             "conv_input_grad"),
    mutation("conv.cu", "      tap2 = 0;\n", "", "conv"),
    mutation("conv.cu", "if (first >= rows) return;", "if (first + kRows > rows) return;", *BOTH),
    # The gradient by the kernel: its places are written down a step ahead.
    mutation("conv.cu", "    half = 1 - half;\n", "", "conv_kernel_grad"),
    mutation("conv.cu", "    place += kStep<T>;\n    write_starts();",
             "    write_starts();\n    place += kStep<T>;", "conv_kernel_grad"),
    mutation("conv.cu", "line % axes[1].window * axes[1].dilation", "line % axes[1].window",
             "conv_kernel_grad"),
]  # fmt: skip
