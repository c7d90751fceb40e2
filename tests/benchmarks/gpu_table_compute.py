"""The rows whose bound is arithmetic: their targets are shares of what NVIDIA's libraries reach."""

import math

from gpu_row import Row, normal, op, uniform, zeros_like

import gpunet

# -- matrix products ----------------------------------------------------------------------------

PRODUCT = op("matmul", transpose1=False, transpose2=False)


def product(label, dtype="bfloat16", target: float | None = 1.0, **sizes):
    return Row(f"matrix product{label}", PRODUCT, lambda M, N, K: [normal(M, K), normal(K, N)],
               sizes, {"M": 5, "N": 33, "K": 7}, dtype=dtype, target=target, of="cuBLAS",
               rivals={"cuBLAS": lambda torch, x, y: x @ y},
               jax=lambda jax, x, y: x @ y)  # fmt: skip


PRODUCTS = [
    product(" of 4096", M=4096, N=4096, K=4096),
    product(" of 8192", M=8192, N=8192, K=8192),
    product(", float16", "float16", M=4096, N=4096, K=4096),
    product(", float32", "float32", M=4096, N=4096, K=4096),
    product(" of a layer", M=65536, N=3072, K=768),
    Row("batched matrix product", PRODUCT, lambda B, M, K: [normal(B, M, K), normal(B, K, M)],
        {"B": 768, "M": 1024, "K": 64}, {"B": 2, "M": 5, "K": 7}, target=1.0, of="cuBLAS",
        rivals={"cuBLAS": lambda torch, x, y: x @ y}),
]  # fmt: skip

# -- convolutions -------------------------------------------------------------------------------


def torch_convolution(torch, x, kernel, stride, padding, groups):
    x, weights = x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1)
    y = torch.nn.functional.conv2d(x, weights, None, stride, padding, groups=groups)
    return y.permute(0, 2, 3, 1)


def filters_outermost(torch, *arrays):
    """cuDNN wants the kernel's filters in the outermost axis of its memory."""
    *others, kernel = arrays
    return *others, kernel.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)


def convolution(label, N, S, C, F, k=3, stride=1, groups=1, target: float | None = 0.60):
    """The three rows of a convolution: forward, and the gradients by inputs and kernel."""
    around = k // 2
    settings = {"strides": (stride,) * 2, "padding": ((around,) * 2,) * 2, "dilation": (1, 1)}
    settings["groups"] = groups

    def rival(torch, x, kernel):
        return torch_convolution(torch, x, kernel, stride, around, groups)

    def forward(N, S, C, F):
        return [normal(N, S, S, C), normal(k, k, C // groups, F)]

    def backward(N, S, C, F):
        places = (S + 2 * around - k) // stride + 1
        return [normal(N, places, places, F), *forward(N, S, C, F)]

    def by_inputs(g, x, kernel):
        return op("conv_input_grad", sizes=tuple(x.shape[1:-1]), **settings)(g, kernel)

    def by_kernel(g, x, kernel):
        return op("conv_kernel_grad", window=(k, k), **settings)(x, g)

    few = {"C": C, "F": F} if groups > 1 else {"C": min(C, 8), "F": 8}
    sizes, quick = {"N": N, "S": S, "C": C, "F": F}, {"N": 1, "S": 5, **few}
    common = {"compiled": False, "of": "cuDNN", "target": target, "rivals": {"cuDNN": rival}}
    common["pack"] = filters_outermost
    name = f"convolution {label}"
    return [
        Row(name, op("conv", **settings), forward, sizes, quick, **common),
        Row(f"{name}, by inputs", by_inputs, backward, sizes, quick, wrt=(0,), **common),
        Row(f"{name}, by kernel", by_kernel, backward, sizes, quick, wrt=(1,), tolerance=2,
            **common),
    ]  # fmt: skip


CONVOLUTIONS = [
    *convolution("3x3, 64 at 56", 256, 56, 64, 64),
    *convolution("3x3, 128 at 28", 256, 28, 128, 128),
    *convolution("3x3, 256 at 14", 256, 14, 256, 256),
    *convolution("3x3, 512 at 7", 256, 7, 512, 512),
    *convolution("7x7, stem", 256, 224, 3, 64, k=7, stride=2, target=None),
    *convolution("1x1, 256 to 64 at 56", 256, 56, 256, 64, k=1, target=None),
    *convolution("3x3, depthwise, 256 at 28", 256, 28, 256, 256, groups=256, target=None),
]

# -- attention ----------------------------------------------------------------------------------


def attention_inputs(B, H, T, D):
    return [normal(B, T, H, D) for _ in range(3)]


def attention_grad_inputs(B, H, T, D):
    return [normal(B, T, H, D) for _ in range(4)]


def attention_op(name, q):
    return op(name, scale=1 / math.sqrt(q.shape[-1]), causal=True, dropout=0.0)


def attention(q, k, v):
    return attention_op("attention", q)(q, k, v)


def attention_saved(g, q, k, v):
    y, lse = attention(q, k, v)
    return g, zeros_like(lse), q, k, v, y, lse


def attention_gradients(g, g_lse, q, k, v, y, lse):
    return attention_op("attention_grad", q)(g, g_lse, q, k, v, y, lse)


def torch_attention(backend):
    """PyTorch's attention by one of its backends, on the memory of ours."""

    def run(torch, *heads):
        q, k, v = [x.transpose(1, 2) for x in heads]
        with torch.nn.attention.sdpa_kernel(getattr(torch.nn.attention.SDPBackend, backend)):
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2)

    return run


def torch_attention_default(torch, *heads):
    q, k, v = [x.transpose(1, 2) for x in heads]
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2)


def jax_attention(jax, q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")


def attention_rows(label, target, **sizes):
    """Causal attention, forward and backward; the targets are those of the two."""
    quick = {"B": 1, "H": 2, "T": 9, "D": 32}
    common = {"of": "cuDNN", "compiled": False, "torch": torch_attention_default}
    common["rivals"] = {
        "cuDNN": torch_attention("CUDNN_ATTENTION"),
        "FlashAttention": torch_attention("FLASH_ATTENTION"),
    }
    return [
        Row(f"attention, {label}", attention, attention_inputs, sizes, quick, target=target[0],
            compared=1, jax=jax_attention, tolerance=2, **common),
        Row(f"attention, {label}, backward", attention_gradients, attention_grad_inputs, sizes,
            quick, prepare=attention_saved, wrt=(0, 1, 2), target=target[1], jax=jax_attention,
            tolerance=4, **common),
    ]  # fmt: skip


ATTENTION = [
    *attention_rows("head 64", (0.70, 0.50), B=64, H=12, T=1024, D=64),
    *attention_rows("head 64, long", (0.70, 0.50), B=16, H=16, T=2048, D=64),
    *attention_rows("head 128", (None, None), B=8, H=16, T=4096, D=128),
]

# -- recurrences --------------------------------------------------------------------------------


def recurrent_inputs(gates):
    def inputs(T, B, U):
        weights = [uniform(U, gates * U), uniform(U, gates * U)]
        return [normal(B, T, U), normal(B, U), normal(B, U), *weights, normal(gates * U)]

    return inputs


def small_weights(x, h, c, kernel, recurrent, bias):
    """Weights of a size at which the recurrence neither dies nor saturates."""
    bound = 2 / math.sqrt(h.shape[-1])
    return x, h, c, (kernel - 0.5) * bound, (recurrent - 0.5) * bound, bias


def lstm(x, h, c, kernel, recurrent, bias):
    return gpunet.ops.lstm(x, h, c, kernel, recurrent, bias)[1]


def torch_lstm(torch, x, h, c, kernel, recurrent, bias):
    weights = [kernel.t().contiguous(), recurrent.t().contiguous(), bias, torch.zeros_like(bias)]
    y, _, _ = torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, False, False, True)
    return y


def torch_small_weights(torch, *inputs):
    return small_weights(*inputs)


def lstm_row(U, name):
    return Row(name, lstm, recurrent_inputs(4), {"T": 128, "B": 64, "U": U},
               {"T": 3, "B": 2, "U": 5}, prepare=small_weights, pack=torch_small_weights,
               compiled=False, of="cuDNN", rivals={"cuDNN": torch_lstm}, compared=1,
               tolerance=4)  # fmt: skip


RECURRENT = [lstm_row(256, "LSTM of 256"), lstm_row(1024, "LSTM of 1024")]

COMPUTE_ROWS = [*PRODUCTS, *ATTENTION, *CONVOLUTIONS, *RECURRENT]
