"""The networks of the CPU benchmark in JAX alone: whole training steps under `jax.jit`."""

import functools
import itertools

import jax
import numpy as np
from jax import lax, nn
from jax import numpy as jnp


class Weights:
    """Draws weights; a network's parameters are a dict of arrays."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.found = {}

    def __call__(self, name, *shape, bias=None):
        scale = np.prod(shape[:-1]) ** -0.5
        self.found[name] = jnp.array(self.rng.normal(0, scale, shape), "float32")
        if bias:
            self.found[name + "_bias"] = jnp.zeros(bias, "float32")

    def norm(self, name, width):
        self.found[name] = jnp.ones(width)
        self.found[name + "_bias"] = jnp.zeros(width)


def affine(p, name, x):
    return x @ p[name] + p[name + "_bias"]


# Each network is (parameters, state, apply); `apply(p, state, x, training)` gives logits, state.


def dense(*units):
    weights = Weights()
    for i, (inputs, outputs) in enumerate(itertools.pairwise(units)):
        weights(f"w{i}", inputs, outputs, bias=outputs)

    def apply(p, state, x, training):
        for i in range(len(units) - 2):
            x = nn.relu(affine(p, f"w{i}", x))
        return affine(p, f"w{len(units) - 2}", x), state

    return weights.found, {}, apply


def convolve(x, kernel, stride=1, padding="SAME"):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=layout)


def lenet():
    weights = Weights()
    weights("c0", 3, 3, 1, 32, bias=32)
    weights("c1", 3, 3, 32, 64, bias=64)
    weights("w0", 64 * 12 * 12, 128, bias=128)
    weights("w1", 128, 10, bias=10)

    def apply(p, state, x, training):
        for name in ("c0", "c1"):
            x = nn.relu(convolve(x, p[name], padding="VALID") + p[name + "_bias"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return affine(p, "w1", nn.relu(affine(p, "w0", x.reshape(len(x), -1)))), state

    return weights.found, {}, apply


def resnet():
    weights, state = Weights(), {}

    def make(name, size, inputs, filters):
        weights(name, size, size, inputs, filters)
        weights.norm(name + "_n", filters)
        state[name] = jnp.zeros(filters), jnp.ones(filters)

    widths = [16] * 4 + [32] * 3 + [64] * 3
    make("stem", 3, 3, 16)
    for i, (inputs, filters) in enumerate(itertools.pairwise(widths)):
        make(f"{i}a", 3, inputs, filters)
        make(f"{i}b", 3, filters, filters)
        if inputs != filters:
            make(f"{i}s", 1, inputs, filters)
    weights("head", 64, 10, bias=10)

    def apply(p, state, x, training):
        new = dict(state)

        def layer(name, x, stride=1):
            x = convolve(x, p[name], stride)
            mean, variance = state[name]
            if training:
                now = x.mean((0, 1, 2)), x.var((0, 1, 2))
                new[name] = tuple(0.99 * a + 0.01 * b for a, b in zip(state[name], now))  # noqa: B905
                mean, variance = now
            x = (x - mean) * lax.rsqrt(variance + 1e-3)
            return x * p[name + "_n"] + p[name + "_n_bias"]

        x = nn.relu(layer("stem", x))
        for i, (inputs, filters) in enumerate(itertools.pairwise(widths)):
            stride = 1 if inputs == filters else 2
            y = layer(f"{i}b", nn.relu(layer(f"{i}a", x, stride)))
            x = nn.relu((layer(f"{i}s", x, stride) if stride > 1 else x) + y)
        return affine(p, "head", x.mean((1, 2))), new

    return weights.found, state, apply


def gpt(vocabulary=65, block=64, width=128, heads=4, depth=4):
    weights = Weights()
    weights("tokens", vocabulary, width)
    weights("places", block, width)
    for i in range(depth):
        weights.norm(f"{i}n", width)
        weights.norm(f"{i}m", width)
        for name, inputs, outputs in (("qkv", 1, 3), ("out", 1, 1), ("wide", 1, 4), ("thin", 4, 1)):
            weights(f"{i}{name}", inputs * width, outputs * width, bias=outputs * width)
    weights.norm("n", width)
    weights("head", width, vocabulary)

    def norm(p, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * p[name] + p[name + "_bias"]

    def apply(p, state, x, training):
        x = p["tokens"][x] + p["places"]
        batch, length, _ = x.shape
        for i in range(depth):
            qkv = affine(p, f"{i}qkv", norm(p, f"{i}n", x))
            qkv = qkv.reshape(batch, length, 3, heads, width // heads)
            y = nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0), is_causal=True)
            x = x + affine(p, f"{i}out", y.reshape(x.shape))
            y = nn.gelu(affine(p, f"{i}wide", norm(p, f"{i}m", x)), approximate=False)
            x = x + affine(p, f"{i}thin", y)
        return norm(p, "n", x) @ p["head"], state

    return weights.found, {}, apply


def lstm(features=32, units=128):
    weights = Weights()
    weights("w", features, 4 * units, bias=4 * units)
    weights("u", units, 4 * units)
    weights("head", units, 10, bias=10)

    def apply(p, state, x, training):
        def cell(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x + h @ p["u"], 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zeros = jnp.zeros((len(x), units))
        (h, _), _ = lax.scan(cell, (zeros, zeros), jnp.swapaxes(affine(p, "w", x), 0, 1))
        return affine(p, "head", h), state

    return weights.found, {}, apply


NETWORKS = {
    "digits": functools.partial(dense, 64, 64, 32, 10),
    "mlp": functools.partial(dense, 784, 512, 512, 10),
    "lenet": lenet,
    "resnet": resnet,
    "gpt": gpt,
    "lstm": lstm,
}


def update(kind, arguments, p, slots, gradients):
    """One step of the optimizer on a dict of parameters."""
    rate = arguments["learning_rate"]
    if kind == "SGD":
        momentum = {k: arguments["momentum"] * slots[k] - rate * g for k, g in gradients.items()}
        return {k: p[k] + momentum[k] for k in p}, momentum
    t = slots["t"] + 1
    decay = 1 - rate * arguments.get("weight_decay", 0.0)
    m = {k: 0.9 * slots["m"][k] + 0.1 * g for k, g in gradients.items()}
    v = {k: 0.999 * slots["v"][k] + 0.001 * g * g for k, g in gradients.items()}
    rate = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    new = {k: decay * p[k] - rate * m[k] / (jnp.sqrt(v[k]) + 1e-7) for k in p}
    return new, {"t": t, "m": m, "v": v}


def contender(name, workload, data):
    """Returns the number of parameters and the ways to run: functions of a number of turns."""
    x, y = data
    kind, arguments = workload.optimizer
    parameters, state, apply = NETWORKS[name]()
    zeros = {k: jnp.zeros_like(w) for k, w in parameters.items()}
    slots = zeros if kind == "SGD" else {"t": jnp.zeros(()), "m": zeros, "v": zeros}
    carry = [parameters, slots, state]

    @jax.jit
    def step(p, slots, state, x, y):
        def loss(p):
            logits, new = apply(p, state, x, True)
            picked = jnp.take_along_axis(nn.log_softmax(logits), y[..., None], -1)
            return -picked.mean(), new

        (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(p)
        return *update(kind, arguments, p, slots, gradients), state, value

    predict = jax.jit(lambda p, state, x: apply(p, state, x, False)[0])
    batch = jnp.asarray(x[: workload.batch]), jnp.asarray(y[: workload.batch])

    def train(steps):
        for _ in range(steps):
            *carry[:], loss = step(*carry, *batch)
        return float(loss)

    def fit(epochs):
        for _ in range(epochs):
            order, losses = np.random.permutation(len(x)), []
            for rows in np.split(order, range(workload.batch, len(x), workload.batch)):
                *carry[:], loss = step(*carry, x[rows], y[rows])
                losses.append(loss * len(rows))
            total = float(sum(losses))
        return total / len(x)

    def infer(steps):
        for _ in range(steps):
            predict(carry[0], carry[2], batch[0]).block_until_ready()

    count = sum(w.size for w in parameters.values())
    ways = {"step": train} if workload.arrays else {"fit": fit}
    return count, {**ways, "inference": infer}
