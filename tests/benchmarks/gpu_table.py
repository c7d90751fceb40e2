"""The rows whose bound is memory, with their targets: shares of the bandwidth measured beside them.

The targets are those the project set itself for an H200. `gpu_row.py` says what a field means, and
`gpu_table_compute.py` has matrix products, convolutions, attention and recurrences.
"""

import functools

from gpu_row import Row, constant, integers, moved, normal, op, uniform, zeros_like

from gpunet.core.tensor import Tensor
from gpunet.ops.elementwise_launch import contiguous

WIDE = {"R": 65536, "C": 1024}
SMALL = {"R": 4096, "C": 768}
QUICK = {"R": 5, "C": 33}

# -- elementwise --------------------------------------------------------------------------------


def two(R, C):
    return [normal(R, C), normal(R, C)]


def one(R, C):
    return [normal(R, C)]


ELEMENTWISE = [
    Row("add", op("add"), two, WIDE, QUICK, target=0.94,
        torch=lambda torch, x, y: x + y, jax=lambda jax, x, y: x + y),
    Row("add, small", op("add"), two, SMALL, QUICK, torch=lambda torch, x, y: x + y),
    Row("gelu", op("gelu", approximate=True), one, WIDE, QUICK, target=0.94,
        torch=lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
        jax=lambda jax, x: jax.nn.gelu(x, approximate=True)),
    Row("relu, float32", op("relu"), one, WIDE, QUICK, dtype="float32", target=0.94,
        torch=lambda torch, x: torch.relu(x), jax=lambda jax, x: jax.nn.relu(x)),
    Row("cast to float32", op("cast", dtype="float32"), one, WIDE, QUICK,
        torch=lambda torch, x: x.float(), jax=lambda jax, x: x.astype("float32")),
]  # fmt: skip

# -- reductions ---------------------------------------------------------------------------------


def positive(R, C):
    return [uniform(R, C)]


REDUCTIONS = [
    Row("sum of all", op("sum", axis=None, keepdims=False), positive, {"R": 65536, "C": 4096},
        QUICK, of="read", target=0.93, torch=lambda torch, x: x.sum(),
        jax=lambda jax, x: x.sum()),
    Row("sum of rows", op("sum", axis=(1,), keepdims=False), positive, {"R": 65536, "C": 4096},
        QUICK, of="read", target=0.93, torch=lambda torch, x: x.sum(1),
        jax=lambda jax, x: x.sum(1)),
    Row("sum of columns", op("sum", axis=(0,), keepdims=False), positive, {"R": 65536, "C": 4096},
        QUICK, of="read", target=0.93, torch=lambda torch, x: x.sum(0),
        jax=lambda jax, x: x.sum(0)),
    Row("sum of rows, small", op("sum", axis=(1,), keepdims=False), positive, SMALL, QUICK,
        of="read", torch=lambda torch, x: x.sum(1)),
    Row("argmax of rows", op("argmax", axis=1, keepdims=False), one, {"R": 16384, "C": 4096}, QUICK,
        dtype="float32", of="read", torch=lambda torch, x: x.argmax(1)),
    Row("cumulative sum", op("cumsum", axis=1), positive, {"R": 16384, "C": 4096}, QUICK,
        dtype="float32", torch=lambda torch, x: x.cumsum(1), tolerance=4),
    Row("global norm", op("sum_squares"), one, {"R": 30000, "C": 4096}, QUICK, dtype="float32",
        of="read", target=0.93, torch=lambda torch, x: torch.linalg.vector_norm(x) ** 2),
    Row("top 16", lambda x: op("top_k", k=16)(x)[0], one, {"R": 4096, "C": 50304},
        {"R": 3, "C": 40}, dtype="float32", of="read", compiled=False,
        torch=lambda torch, x: x.topk(16).values),
]  # fmt: skip

# -- softmax and cross-entropy ------------------------------------------------------------------


def with_cotangent(R, C):
    return [normal(R, C), normal(R, C)]


def logits_and_labels(R, C):
    return [normal(R, C), integers(C, R)]


def cross_entropy_inputs(logits, labels):
    """With the scale of a mean; 2^-14 is exact in every dtype."""
    return logits, labels, Tensor(logits.device.xp.full((), 2.0**-14, "float32"), logits.device)


def cross_entropy_and_gradient(logits, labels, scale):
    """What a compiled training step does: the losses of all rows, the gradient of their mean."""
    settings = {"ignore_index": None, "label_smoothing": 0.0}
    loss, _, gradient = op("softmax_cross_entropy_with_grad", **settings)(logits, labels, scale)
    return loss, gradient


def torch_losses(torch, logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def torch_cross_entropy(torch, logits, labels, losses=torch_losses):
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        loss = losses(torch, logits, labels)
        return loss.detach(), torch.autograd.grad(loss.float().sum() * 2.0**-14, logits)[0]


@functools.cache
def compiled_losses(torch):
    return torch.compile(functools.partial(torch_losses, torch), dynamic=False)


def torch_cross_entropy_compiled(torch, logits, labels):
    def losses(torch, logits, labels):
        return compiled_losses(torch)(logits, labels)

    return torch_cross_entropy(torch, logits, labels, losses)


def jax_cross_entropy(jax, logits, labels):
    def mean(x):
        scores = jax.nn.log_softmax(x.astype("float32"))
        loss = -jax.numpy.take_along_axis(scores, labels[:, None], 1)[:, 0]
        return (loss * 2.0**-14).sum(), loss

    gradient, loss = jax.grad(mean, has_aux=True)(logits)
    return loss, gradient


SOFTMAX = [
    Row("softmax", op("softmax", axis=-1), one, WIDE, QUICK, target=0.88,
        torch=lambda torch, x: torch.softmax(x, -1), jax=lambda jax, x: jax.nn.softmax(x)),
    Row("softmax, backward", op("softmax_grad", axis=-1), with_cotangent, WIDE, QUICK, target=0.88,
        prepare=lambda g, x: (g, op("softmax", axis=-1)(x)), wrt=(0,), tolerance=2,
        torch=lambda torch, x: torch.softmax(x, -1), jax=lambda jax, x: jax.nn.softmax(x)),
    Row("softmax of long rows", op("softmax", axis=-1), one, {"R": 4096, "C": 50304}, QUICK,
        target=0.88, torch=lambda torch, x: torch.softmax(x, -1),
        jax=lambda jax, x: jax.nn.softmax(x)),
    Row("softmax, small", op("softmax", axis=-1), one, SMALL, QUICK,
        torch=lambda torch, x: torch.softmax(x, -1)),
    Row("log-softmax", op("log_softmax", axis=-1), one, WIDE, QUICK, target=0.88,
        torch=lambda torch, x: torch.log_softmax(x, -1), jax=lambda jax, x: jax.nn.log_softmax(x)),
    Row("cross-entropy with gradient", cross_entropy_and_gradient, logits_and_labels,
        {"R": 16384, "C": 50304}, QUICK, prepare=cross_entropy_inputs, target=0.82, tolerance=2,
        floor=lambda inputs, outputs: 2 * moved(inputs[0]),
        torch=torch_cross_entropy, jax=jax_cross_entropy, compiled=False,
        rivals={"compile": torch_cross_entropy_compiled}),
    Row("cross-entropy, 131072 classes", cross_entropy_and_gradient, logits_and_labels,
        {"R": 4096, "C": 131072}, QUICK, prepare=cross_entropy_inputs, target=0.82, tolerance=2,
        floor=lambda inputs, outputs: 2 * moved(inputs[0]), torch=torch_cross_entropy,
        compiled=False),
]  # fmt: skip

# -- normalisations -----------------------------------------------------------------------------

EPSILON = 1e-5


def layer_norm_inputs(R, C):
    return [normal(R, C), uniform(C), normal(C)]


def layer_norm_grad_inputs(R, C):
    return [normal(R, C), *layer_norm_inputs(R, C)]


def layer_norm_saved(g, x, scale, offset):
    _, mean, rstd = op("layer_norm", epsilon=EPSILON)(x, scale, offset)
    return g, zeros_like(mean), zeros_like(rstd), x, scale, mean, rstd


def rms_norm_saved(g, x, scale):
    _, rstd = op("rms_norm", epsilon=EPSILON)(x, scale)
    return g, zeros_like(rstd), x, scale, rstd


def batch_norm_saved(g, x, scale, offset):
    _, mean, variance = op("batch_norm_train", epsilon=EPSILON)(x, scale, offset)
    return g, zeros_like(mean), zeros_like(variance), x, scale, mean, variance


def torch_layer_norm(torch, x, scale, offset):
    return torch.nn.functional.layer_norm(x, scale.shape, scale, offset, EPSILON)


def jax_layer_norm(jax, x, scale, offset):
    wide = x.astype("float32")
    centred = wide - wide.mean(-1, keepdims=True)
    rstd = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    return (centred * rstd).astype(x.dtype) * scale + offset


def torch_rms_norm(torch, x, scale):
    return torch.nn.functional.rms_norm(x, scale.shape, scale, EPSILON)


def torch_batch_norm(torch, x, scale, offset):
    y = x.permute(0, 3, 1, 2)  # the same memory, which PyTorch calls channels_last
    y = torch.nn.functional.batch_norm(y, None, None, scale, offset, True, 0.1, EPSILON)
    return y.permute(0, 2, 3, 1)


def batch_norm_inputs(N, S, C):
    return [normal(N, S, S, C), uniform(C, dtype="float32"), normal(C, dtype="float32")]


def batch_norm_grad_inputs(N, S, C):
    return [normal(N, S, S, C), *batch_norm_inputs(N, S, C)]


def forward_norm(label, sizes, target=0.88):
    return Row(f"layer norm{label}", op("layer_norm", epsilon=EPSILON), layer_norm_inputs, sizes,
               QUICK, target=target, torch=torch_layer_norm, jax=jax_layer_norm,
               compared=1)  # fmt: skip


def backward_norm(label, sizes, target=0.75):
    return Row(f"layer norm, backward{label}", op("layer_norm_grad"), layer_norm_grad_inputs, sizes,
               QUICK, prepare=layer_norm_saved, wrt=(0, 1, 2), target=target, tolerance=2,
               torch=torch_layer_norm, jax=jax_layer_norm)  # fmt: skip


RMS = {"R": 16384, "C": 4096}
MAPS, FEW_MAPS = {"N": 256, "S": 56, "C": 256}, {"N": 2, "S": 3, "C": 5}
NORMS = [
    forward_norm("", {"R": 65536, "C": 768}),
    backward_norm("", {"R": 65536, "C": 768}),
    forward_norm(" of 4096", {"R": 16384, "C": 4096}),
    backward_norm(" of 4096", {"R": 16384, "C": 4096}),
    forward_norm(" of 16384", {"R": 4096, "C": 16384}),
    backward_norm(" of 16384", {"R": 4096, "C": 16384}),
    forward_norm(", small", SMALL, None),
    Row("RMS norm", op("rms_norm", epsilon=EPSILON), lambda R, C: [normal(R, C), uniform(C)], RMS,
        QUICK, target=0.88, torch=torch_rms_norm, compared=1),
    Row("RMS norm, backward", op("rms_norm_grad"),
        lambda R, C: [normal(R, C), normal(R, C), uniform(C)], RMS, QUICK, prepare=rms_norm_saved,
        wrt=(0, 1), target=0.75, tolerance=2, torch=torch_rms_norm),
    Row("batch norm", op("batch_norm_train", epsilon=EPSILON), batch_norm_inputs, MAPS, FEW_MAPS,
        floor=lambda inputs, outputs: 3 * moved(inputs[0]), target=0.82, torch=torch_batch_norm,
        compared=1, tolerance=2),
    Row("batch norm, backward", op("batch_norm_grad", epsilon=EPSILON), batch_norm_grad_inputs,
        MAPS, FEW_MAPS, prepare=batch_norm_saved, wrt=(0, 1, 2), target=0.82, tolerance=2,
        floor=lambda inputs, outputs: 5 * moved(inputs[0]), torch=torch_batch_norm),
]  # fmt: skip

# -- bias and activation, dropout, random numbers -----------------------------------------------


def torch_bias_gelu(torch, x, bias):
    return torch.nn.functional.gelu(x + bias, approximate="tanh")


def jax_bias_gelu(jax, x, bias):
    return jax.nn.gelu(x + bias, approximate=True)


def seeded(R, C):
    return [normal(R, C), integers(1000, 2, dtype="uint32")]


def draw(R, C):
    return [integers(1000, 2, dtype="uint32"), constant(0, R, C)]


HIDDEN = {"R": 65536, "C": 3072}
MIXED = [
    Row("bias + GELU", op("bias_smooth_activation", activation="gelu_tanh"),
        lambda R, C: [normal(R, C), normal(C)], HIDDEN, QUICK, target=0.92,
        torch=torch_bias_gelu, jax=jax_bias_gelu),
    Row("bias + GELU, backward", op("bias_smooth_activation_grad", activation="gelu_tanh"),
        lambda R, C: [normal(R, C), normal(R, C), normal(C)], HIDDEN, QUICK, wrt=(0, 1),
        target=0.87, tolerance=2, torch=torch_bias_gelu, jax=jax_bias_gelu),
    Row("dropout", lambda x, seed: op("dropout", rate=0.125, shape=tuple(x.shape))(x, seed), seeded,
        HIDDEN, QUICK, target=0.90, compared=0,
        torch=lambda torch, x, seed: torch.nn.functional.dropout(x, 0.125, True)),
    Row("uniform float32",
        lambda seed, like: op("random_uniform", shape=tuple(like.shape), dtype="float32")(seed),
        draw, WIDE, QUICK, of="write", compared=0, floor=lambda inputs, outputs: moved(*outputs),
        torch=lambda torch, seed, like: torch.rand(like.shape, device=like.device)),
    Row("normal",
        lambda seed, like: op("random_normal", shape=tuple(like.shape), dtype="bfloat16")(seed),
        draw, WIDE, QUICK, of="write", compared=0, floor=lambda inputs, outputs: moved(*outputs),
        torch=lambda torch, seed, like: torch.randn_like(like)),
]  # fmt: skip

# -- optimisers ---------------------------------------------------------------------------------

ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}
GPT2 = {"n": 124_475_904}


def adam_inputs(n):
    slots = [normal(n), normal(n), normal(n), uniform(n)]
    return [*slots, constant(0.125), constant(3, dtype="int32")]


def torch_adam(torch, w, g, m, v, rate, step):
    settings = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8}
    fixed = {"amsgrad": False, "maximize": False}
    torch._fused_adam_([w], [g], [m], [v], [], [step.float()], **settings, **fixed)
    return w, m, v


def jax_adam(jax, w, g, m, v, rate, step):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    step = step.astype("float32")
    scale = rate * jax.numpy.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return w - scale * m / (jax.numpy.sqrt(v) + 1e-8), m, v


OPTIMISERS = [
    Row("Adam", op("adam_update", **ADAM), adam_inputs, GPT2, {"n": 100}, dtype="float32",
        target=0.91, torch=torch_adam, jax=jax_adam, in_place=True, compiled=False, tolerance=4),
    Row("SGD", op("sgd_update", weight_decay=0.0),
        lambda n: [normal(n), normal(n), constant(0.125)], GPT2, {"n": 100}, dtype="float32",
        target=0.91, torch=lambda torch, w, g, rate: w - rate * g,
        jax=lambda jax, w, g, rate: w - rate * g),
    Row("momentum", op("momentum_update", momentum=0.9, nesterov=False, weight_decay=0.0),
        lambda n: [normal(n), normal(n), normal(n), constant(0.125)], GPT2, {"n": 100},
        dtype="float32", target=0.91),
]  # fmt: skip

# -- embedding, pooling, layout -----------------------------------------------------------------

TOKENS = {"V": 50304, "C": 768, "T": 65536}
POOL = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
AVERAGE = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
IMAGES, FEW_IMAGES = {"N": 256, "S": 112, "C": 64}, {"N": 1, "S": 6, "C": 5}


def channels_first(pool):
    """A pooling of PyTorch on the memory of ours, which it calls channels_last."""
    return lambda torch, x: pool(torch, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


torch_max_pool = channels_first(lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, padding=1))
torch_average_pool = channels_first(lambda torch, x: torch.nn.functional.avg_pool2d(x, 2))


def transposed(x):
    return Tensor(contiguous(x.data.T), x.device)


LAYOUT = [
    Row("embedding", op("take", axis=0), lambda V, C, T: [normal(V, C), integers(V, T)], TOKENS,
        {"V": 11, "C": 33, "T": 5}, target=0.85,
        floor=lambda inputs, outputs: 2 * moved(*outputs) + moved(inputs[1]),
        torch=lambda torch, x, i: torch.nn.functional.embedding(i, x), jax=lambda jax, x, i: x[i]),
    Row("embedding, backward",
        lambda g, table, i: op("index_add", axis=0, length=table.shape[0])(g, i),
        lambda V, C, T: [normal(T, C), normal(V, C), integers(V, T)], TOKENS,
        {"V": 11, "C": 33, "T": 5}, target=0.50, wrt=(0,), tolerance=2,
        floor=lambda inputs, outputs: moved(inputs[0], inputs[2], *outputs),
        torch=lambda torch, x, i: torch.nn.functional.embedding(i, x), jax=lambda jax, x, i: x[i]),
    Row("max pooling", op("max_pool", **POOL), lambda N, S, C: [normal(N, S, S, C)], IMAGES,
        FEW_IMAGES, target=0.85, torch=torch_max_pool),
    Row("max pooling, backward", op("max_pool_grad", **POOL),
        lambda N, S, C: [normal(N, S // 2, S // 2, C), normal(N, S, S, C)], IMAGES, FEW_IMAGES,
        prepare=lambda g, x: (g, x, op("max_pool", **POOL)(x)), target=0.75, wrt=(0,), tolerance=2,
        torch=torch_max_pool),
    Row("average pooling", op("average_pool", **AVERAGE), lambda N, S, C: [normal(N, S, S, C)],
        IMAGES, FEW_IMAGES, target=0.85, torch=torch_average_pool),
    Row("average pooling, backward",
        lambda g, x: op("average_pool_grad", sizes=tuple(x.shape[1:-1]), **AVERAGE)(g),
        lambda N, S, C: [normal(N, S // 2, S // 2, C), normal(N, S, S, C)], IMAGES, FEW_IMAGES,
        target=0.75, wrt=(0,), torch=torch_average_pool,
        floor=lambda inputs, outputs: moved(inputs[0], *outputs)),
    Row("transpose", transposed, one, {"R": 16384, "C": 16384}, QUICK, target=0.85,
        reference=lambda x: op("transpose", axes=(1, 0))(x),
        torch=lambda torch, x: x.t().contiguous(), jax=lambda jax, x: x.T),
    Row("concatenate", op("concatenate", axis=1), two, WIDE, QUICK,
        torch=lambda torch, x, y: torch.cat([x, y], -1)),
    Row("one-hot", op("one_hot", num_classes=1024, axis=1, dtype="bfloat16"),
        lambda R: [integers(1024, R)], {"R": 65536}, {"R": 5}, of="write",
        torch=lambda torch, i: torch.nn.functional.one_hot(i, 1024).bfloat16()),
]  # fmt: skip

MEMORY_ROWS = [*ELEMENTWISE, *SOFTMAX, *NORMS, *MIXED, *REDUCTIONS, *OPTIMISERS, *LAYOUT]
