"""The networks of the GPU benchmark in JAX alone: a whole training step under `jax.jit`.

What a step changes is donated. In `mixed` networks weights are float32, and cast to bfloat16 at
the beginning of a step; means and variances are computed in float32.
"""

import contextlib
import functools
import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import cpu_jax
import jax
from cpu_jax import Weights, affine, convolve
from gpu_models import Ready
from jax import lax, nn
from jax import numpy as jnp

# ---------------------------------------------------------------------------------- the networks
# Each is (parameters, state, apply); `apply(p, state, x)` gives logits and state, in training.


def mlp(units):
    return _training(cpu_jax.dense(*units))


def lstm(steps, features, units):
    return _training(cpu_jax.lstm(features, units))


def _training(network):
    parameters, state, apply = network
    return parameters, state, lambda p, state, x: apply(p, state, x, True)


class Convolutions:
    """Convolutions with batch normalization: draws their weights, then applies them by name."""

    def __init__(self):
        self.weights, self.state = Weights(), {}

    def make(self, name, size, inputs, filters):
        self.weights(name, size, size, inputs, filters)
        self.weights.norm(name + "_n", filters)
        self.state[name] = jnp.zeros(filters), jnp.ones(filters)

    def applied(self, p, new):
        """Returns the function of a name, an input and a stride; `new` gets the new state."""

        def layer(name, x, stride=1):
            y = convolve(x, p[name], stride)
            wide = y.astype("float32")
            now = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
            new[name] = tuple(0.99 * a + 0.01 * b for a, b in zip(new[name], now, strict=True))
            y = (wide - now[0]) * lax.rsqrt(now[1] + 1e-3)
            return (y * p[name + "_n"] + p[name + "_n_bias"]).astype(x.dtype)

        return layer


def pool(x, size, padding):
    window = (1, size, size, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), padding)


def cnn(widths, image):
    layers, before = Convolutions(), 3
    for i, width in enumerate(widths):
        layers.make(f"{i}a", 3, before, width)
        layers.make(f"{i}b", 3, width, width)
        before = width
    layers.weights("head", before, 10, bias=10)

    def apply(p, state, x):
        new = dict(state)
        layer = layers.applied(p, new)
        for i in range(len(widths)):
            x = pool(nn.relu(layer(f"{i}b", nn.relu(layer(f"{i}a", x)))), 2, "VALID")
        return affine(p, "head", x.mean((1, 2))), new

    return layers.weights.found, layers.state, apply


def resnet(blocks, width, image, classes):
    layers, plan, inputs = Convolutions(), [], width
    layers.make("stem", 7, 3, width)
    for stage, count in enumerate(blocks):
        filters = width << stage
        for i in range(count):
            name = f"{stage}.{i}"
            layers.make(name + "a", 1, inputs, filters)
            layers.make(name + "b", 3, filters, filters)
            layers.make(name + "c", 1, filters, 4 * filters)
            if not i:
                layers.make(name + "s", 1, inputs, 4 * filters)
            plan.append((name, 2 if stage and not i else 1))
            inputs = 4 * filters
    layers.weights("head", inputs, classes, bias=classes)

    def apply(p, state, x):
        new = dict(state)
        layer = layers.applied(p, new)
        x = pool(nn.relu(layer("stem", x, 2)), 3, "SAME")
        for name, stride in plan:
            y = nn.relu(layer(name + "a", x))
            y = layer(name + "c", nn.relu(layer(name + "b", y, stride)))
            x = nn.relu((layer(name + "s", x, stride) if name + "s" in p else x) + y)
        return affine(p, "head", x.mean((1, 2))), new

    return layers.weights.found, layers.state, apply


@functools.cache
def attention():
    """The kind of attention: cuDNN's, which is the fastest, where it works."""
    x = jnp.zeros((1, 128, 2, 64), "bfloat16")

    def loss(x):
        y = nn.dot_product_attention(x, x, x, is_causal=True, implementation="cudnn")
        return y.astype("float32").sum()

    try:
        jax.block_until_ready(jax.jit(jax.grad(loss))(x))
    except Exception as error:  # each version of JAX has a kind of its own
        print(f"attention by XLA, since cuDNN cannot: {error}")
        return "xla"
    return "cudnn"


def gpt(vocabulary, block, width, heads, depth):
    parameters, state, _ = cpu_jax.gpt(vocabulary, block, width, heads, depth)
    del parameters["head"]  # the embedding is the head, too

    def norm(p, name, x):
        wide = x.astype("float32")
        wide = wide - wide.mean(-1, keepdims=True)
        wide = wide * lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)
        return (wide * p[name] + p[name + "_bias"]).astype(x.dtype)

    def apply(p, state, x):
        x = p["tokens"][x] + p["places"]
        batch, length, _ = x.shape
        for i in range(depth):
            qkv = affine(p, f"{i}qkv", norm(p, f"{i}n", x))
            qkv = jnp.moveaxis(qkv.reshape(batch, length, 3, heads, width // heads), 2, 0)
            y = nn.dot_product_attention(*qkv, is_causal=True, implementation=attention())
            x = x + affine(p, f"{i}out", y.reshape(x.shape))
            y = nn.gelu(affine(p, f"{i}wide", norm(p, f"{i}m", x)), approximate=False)
            x = x + affine(p, f"{i}thin", y)
        return norm(p, "n", x) @ p["tokens"].T, state

    return parameters, state, apply


BUILD = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "resnet": resnet, "gpt": gpt}

# -------------------------------------------------------------------------------------- training


@contextlib.contextmanager
def ready(name, network, device, quick):
    """Yields what trains the network."""
    on_gpu = device != "emulator"
    if on_gpu and jax.default_backend() != "gpu":
        raise RuntimeError("JAX finds no GPU")
    if quick:
        jax.config.update("jax_disable_most_optimizations", True)
    if not network.mixed:
        jax.config.update("jax_default_matmul_precision", "highest")  # float32 is not TF32
    if name == "gpt":
        attention()  # tried outside of the step
    parameters, state, apply = BUILD[name](**network.sized(quick))
    count = sum(w.size for w in parameters.values())
    slots = empty_slots(network, parameters)
    step, batch = training_step(network, apply), [jnp.asarray(a) for a in network.arrays(quick)]
    carry, last = [parameters, slots, state], [None]
    del parameters, slots, state  # their memory is given away

    def keep():
        *carry[:], last[0] = step(*carry, *batch)

    yield Ready(
        count,
        keep,
        lambda: float(last[0]),
        lambda: jax.block_until_ready(carry),
        lambda: jax.devices()[0].memory_stats()["peak_bytes_in_use"] if on_gpu else None,
    )


def empty_slots(network, parameters):
    """What the optimizer remembers before the first step."""
    first, second = [{k: jnp.zeros_like(w) for k, w in parameters.items()} for _ in range(2)]
    if network.optimizer[0] == "SGD":
        return first
    return {"t": jnp.zeros(()), "m": first, "v": second}


def training_step(network, apply):
    """Returns the compiled step: from weights, slots, state and batch to new ones and the loss."""
    kind, arguments = network.optimizer
    dtype = "bfloat16" if network.mixed else "float32"

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(p, slots, state, x, y):
        def loss(p):
            logits, new = apply({k: cast(w) for k, w in p.items()}, state, cast(x))
            chances = nn.log_softmax(logits.astype("float32"))
            return -jnp.take_along_axis(chances, y[..., None], -1).mean(), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(p)
        return *cpu_jax.update(kind, arguments, p, slots, gradients), new, value

    return step
