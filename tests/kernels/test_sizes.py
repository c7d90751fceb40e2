"""Every kernel at the sizes around its warps and blocks, with no element and with one.

The rows of the case tables are small and many; here each kernel has one or two that grow.
"""

import math

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend.kernels import Kernel
from gpunet.core.primitive import REGISTRY
from gpunet.testing import ops as checks
from tests.kernels.instantiations import launches
from tests.ops.case import array, case, distinct, integers, normal, uniform

SIZES = (0, 1, 31, 32, 33, 1023, 1025)
SEED = array([3, 4], "uint32")
ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "weight_decay": 0.1}
CONV = {"strides": (1,), "padding": ((1, 1),), "dilation": (1,)}
POOL = {"window": (2,), "strides": (2,), "padding": ((0, 0),)}
LABELS = {"ignore_index": None, "label_smoothing": 0.0}


def gates(*shape):
    return uniform(0.1, 0.9, *shape)


ROWS = [
    # Elementwise, copies, transposes.
    ("exp", lambda n: case(normal(n))),
    ("add", lambda n: case(normal(n), normal(n))),
    ("add", lambda n: case(normal(3, n), normal(n))),
    ("add", lambda n: case(normal(n, 3), normal(n, 1))),
    ("where", lambda n: case(integers(0, 2, n, dtype="bool"), normal(n), normal(n))),
    ("concatenate", lambda n: case(normal(2, n), normal(2, 5), axis=1)),
    ("pad", lambda n: case(normal(2, n), widths=((1, 0), (2, 3)), value=0.5)),
    ("sum", lambda n: case(normal(5, n), axis=(0,), keepdims=False)),
    ("sum", lambda n: case(normal(5, n), axis=(1,), keepdims=False)),
    ("sum", lambda n: case(normal(n, 5), axis=(0,), keepdims=False)),
    ("sum", lambda n: case(normal(n), axis=None, keepdims=False)),
    ("softmax", lambda n: case(normal(n, 40), axis=0)),  # which is transposed
    ("cumsum", lambda n: case(normal(3, n), axis=1)),
    ("cumsum", lambda n: case(normal(n, 3), axis=0)),
    ("top_k", lambda n: case(distinct(n, 9), k=4)),
    ("top_k", lambda n: case(distinct(2, max(n, 1)), k=1)),
    # Rows: softmax, cross-entropy, norms.
    ("softmax", lambda n: case(normal(3, n), axis=1)),
    ("softmax", lambda n: case(normal(n, 5), axis=1)),
    ("softmax_grad", lambda n: case(normal(3, n), normal(3, n), axis=1)),
    ("softmax_cross_entropy", lambda n: case(normal(n, 7), integers(0, 7, n), **LABELS)),
    ("softmax_cross_entropy", lambda n: case(normal(3, n + 1), integers(0, 1, 3), **LABELS)),
    (
        "softmax_cross_entropy_grad",
        lambda n: case(
            *(normal(n), normal(n), normal(n, 7), integers(0, 7, n), uniform(2, 3, n)), **LABELS
        ),
    ),
    (
        "softmax_cross_entropy_with_grad",
        lambda n: case(normal(n, 7), integers(0, 7, n), uniform(0.5, 1), **LABELS),
    ),
    ("dense_cross_entropy", lambda n: case(normal(n, 7), gates(n, 7), label_smoothing=0.0)),
    (
        "dense_cross_entropy_grad",
        lambda n: case(
            *(normal(n), normal(n), normal(n, 7), gates(n, 7), uniform(2, 3, n)),
            label_smoothing=0.0,
        ),
    ),
    ("sigmoid_cross_entropy", lambda n: case(normal(n), gates(n))),
    ("layer_norm", lambda n: case(normal(3, n or 2), gates(n or 2), normal(n or 2), epsilon=1e-3)),
    ("layer_norm", lambda n: case(normal(n, 9), gates(9), normal(9), epsilon=1e-3)),
    (
        "layer_norm_grad",
        lambda n: case(
            *(normal(3, n), normal(3), normal(3), normal(3, n), gates(n), normal(3), gates(3))
        ),
    ),
    (
        "layer_norm_grad",
        lambda n: case(
            *(normal(n, 9), normal(n), normal(n), normal(n, 9), gates(9), normal(n), gates(n))
        ),
    ),
    ("batch_norm_train", lambda n: case(normal(9, n), gates(n), normal(n), epsilon=1e-3)),
    ("batch_norm_train", lambda n: case(normal(n + 1, 5), gates(5), normal(5), epsilon=1e-3)),
    (
        "batch_norm_grad",
        lambda n: case(
            *(normal(9, n), normal(n), normal(n), normal(9, n), gates(n), normal(n), gates(n)),
            epsilon=1e-3,
        ),
    ),
    ("group_norm", lambda n: case(normal(n, 5, 6), gates(6), normal(6), groups=3, epsilon=1e-3)),
    (
        "group_norm_grad",
        lambda n: case(
            *(normal(n, 5, 6), normal(n, 3), normal(n, 3), normal(n, 5, 6)),
            *(gates(6), normal(n, 3), gates(n, 3)),
            groups=3,
        ),
    ),
    ("bias_activation", lambda n: case(normal(3, n), normal(n), activation="relu")),
    ("bias_activation_grad", lambda n: case(normal(3, n), normal(3, n), activation="relu")),
    ("bias_activation_grad", lambda n: case(normal(n, 5), normal(n, 5), activation="relu")),
    # Windows.
    ("conv", lambda n: case(normal(n, 4, 3), normal(3, 3, 4), **CONV, groups=1)),
    ("conv", lambda n: case(normal(1, 4, 3), normal(3, 3, n), **CONV, groups=1)),
    (
        "conv_input_grad",
        lambda n: case(normal(n, 4, 4), normal(3, 3, 4), sizes=(4,), **CONV, groups=1),
    ),
    (
        "conv_kernel_grad",
        lambda n: case(normal(n, 4, 3), normal(n, 4, 4), window=(3,), **CONV, groups=1),
    ),
    ("conv", lambda n: case(normal(n, 4, 8), normal(3, 1, 8), **CONV, groups=8)),
    (
        "conv_input_grad",
        lambda n: case(normal(n, 4, 8), normal(3, 1, 8), sizes=(4,), **CONV, groups=8),
    ),
    (
        "conv_kernel_grad",
        lambda n: case(normal(n, 4, 8), normal(n, 4, 8), window=(3,), **CONV, groups=8),
    ),
    ("conv", lambda n: case(normal(n, 4, 4), normal(3, 2, 4), **CONV, groups=2)),
    (
        "conv_input_grad",
        lambda n: case(normal(n, 4, 4), normal(3, 2, 4), sizes=(4,), **CONV, groups=2),
    ),
    (
        "conv_kernel_grad",
        lambda n: case(normal(n, 4, 4), normal(n, 4, 4), window=(3,), **CONV, groups=2),
    ),
    ("max_pool", lambda n: case(distinct(2, 4, n), **POOL)),
    ("max_pool_grad", lambda n: case(normal(1, 2, n), *pooled(n), **POOL)),
    ("max_pool_take", lambda n: case(normal(1, 4, n), *pooled(n), **POOL)),
    ("average_pool", lambda n: case(normal(2, 4, n), **POOL)),
    ("average_pool_grad", lambda n: case(normal(2, 2, n), sizes=(4,), **POOL)),
    # Attention: n queries, n keys.
    ("attention", lambda n: attended(n, 5)),
    ("attention", lambda n: attended(3, n)),
    ("attention_grad", lambda n: attended_back(n, 5)),
    ("attention_grad", lambda n: attended_back(3, n)),
    # Places.
    ("take", lambda n: case(normal(5, 4), integers(0, 5, n), axis=0)),
    ("take_along_axis", lambda n: case(normal(5, 4), integers(0, 4, 5, n), axis=1)),
    ("add_along_axis", lambda n: case(normal(5, n), integers(0, 4, 5, n), axis=1, length=4)),
    ("index_add", lambda n: case(normal(n, 4), integers(0, 5, n), axis=0, length=5)),
    ("index_add", lambda n: case(normal(9, n), integers(0, 5, 9), axis=0, length=5)),
    ("one_hot", lambda n: case(integers(0, 5, n), num_classes=5, axis=1, dtype=np.dtype("f4"))),
    ("pick", lambda n: case(normal(n, 7), integers(0, 7, n))),
    # Random numbers.
    ("random_uniform", lambda n: case(SEED, shape=(n,), dtype="float32")),
    ("random_normal", lambda n: case(SEED, shape=(n,), dtype="float32")),
    ("random_truncated_normal", lambda n: case(SEED, shape=(n,), dtype="float32")),
    ("random_integers", lambda n: case(SEED, shape=(n,), dtype="int32", low=-3, high=200)),
    ("random_permutation", lambda n: case(SEED, length=n)),
    ("dropout", lambda n: case(normal(n), SEED, rate=0.5, shape=(n,))),
    # Recurrent cells: a batch of n, n units.
    ("lstm_gates", lambda n: case(normal(3, 4 * n), normal(3, n))),
    ("lstm_gates_grad", lambda n: case(*lstm_back(3, n))),
    ("gru_gates", lambda n: case(normal(3, 3 * n), normal(3, 3 * n), normal(3, n))),
    ("gru_gates_grad", lambda n: case(*gru_back(3, n))),
    (
        "gru_sequence",
        lambda n: case(normal(2, n, 6), normal(n, 2), normal(2, 6), normal(6), reset_after=False),
    ),
    (
        "gru_sequence_grad",
        lambda n: case(
            *(normal(2, n, 2), normal(2, n, 6), normal(n, 2), normal(2, 6), normal(6)),
            *(normal(2, n, 2), gates(2, n, 6)),
            reset_after=False,
        ),
    ),
    # Optimisers.
    (
        "adam_update",
        lambda n: case(*[normal(n)] * 3, gates(n), array(0.1), array(3, "int32"), **ADAM),
    ),
    ("sum_squares", lambda n: case(normal(n))),
]


def pooled(n):
    """An input of a max pooling, and its result."""
    x = np.random.default_rng(n).permutation(4 * n).reshape(1, 4, n) * 0.1
    return array(x), array(x.reshape(1, 2, 2, n).max(2))


def attended(queries, keys):
    return case(
        *(normal(1, queries, 2, 8), normal(1, keys, 2, 8), normal(1, keys, 2, 8)),
        **{"scale": 0.4, "causal": False, "dropout": 0.0},
    )


def attended_back(queries, keys):
    """A gradient of attention; with the log-sum-exp of scores near 0, so that weights are fair."""
    return case(
        *(normal(1, queries, 2, 8), normal(1, 2, queries), normal(1, queries, 2, 8)),
        *(uniform(-0.1, 0.1, 1, keys, 2, 8), normal(1, keys, 2, 8), normal(1, queries, 2, 8)),
        array(np.full((1, 2, queries), math.log(max(keys, 1)))),
        **{"scale": 0.4, "causal": False, "dropout": 0.0},
    )


def lstm_back(batch, n):
    wide, narrow = normal(batch, 4 * n), normal(batch, n)
    return narrow, narrow, wide, narrow, narrow, gates(batch, 4 * n)


def gru_back(batch, n):
    return (
        normal(batch, n),
        normal(batch, 3 * n),
        normal(batch, 3 * n),
        normal(batch, n),
        gates(batch, 3 * n),
    )


@pytest.mark.parametrize(("name", "make"), ROWS, ids=[f"{n}{i}" for i, (n, _) in enumerate(ROWS)])
def test_sizes(name, make):
    for n in SIZES:
        row = make(n)
        inputs = row.inputs("float32")
        checks.check_precision(REGISTRY[name], inputs, row.attributes, "emulator", factor=2)


# What only rows launch that are longer than these, or not aligned, or of two passes.
ELSEWHERE = {
    *("norm_forward_wide", "norm_backward_wide", "norm_backward_columns", "piece_totals"),
    *("softmax_forward_wide", "softmax_backward_wide", "batch_norm_factor"),
    *("attention_backward_atomic", "add_rows_atomic"),
}


def test_every_kernel_is_among_them(monkeypatch):
    launched = set()

    def note(kernel, **launch):
        launched.add(kernel.expression.split("<")[0])

    monkeypatch.setattr(Kernel, "__call__", note)
    for name, make in ROWS:
        for dtype in ("float32", "float16"):
            row = make(33)
            REGISTRY[name].rules["cuda"](*row.inputs(dtype), **row.attributes)
    known = {text.split("<")[0] for texts in launches().values() for _, text in texts}
    assert sorted(known - launched - ELSEWHERE) == []
