"""Rows for `gpunet/ops/attention.py`.

Tolerances: a score is a sum of W products, rounded at the scale of their sizes; the error of its
exponential, and through it of the weights, is that of the score. Gradients add up T or S products
of two such numbers, in halves each rounded once more.
"""

import functools

import numpy as np

from tests.ops.case import array, case, normal, uniform

_Q, _K = normal(2, 3, 4, 5), normal(2, 6, 4, 5)
_KEYS = array([[[[1, 0, 1, 1, 0, 1]], [[1, 1, 0, 0, 1, 1]]]] * 2, "bool")
_PAIRS = array([[[[1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]]]] * 2, "bool")
_NONE = array([[[[0] * 6, [1] * 6, [0] * 6]]], "bool")
_SEED = array([5, 9], "uint32")
_SMALL = [  # widths that no kernel is made for
    ((_Q, _K, _K), {"causal": False}),
    ((_Q, _K, normal(2, 6, 4, 3), _PAIRS), {"causal": False}),
    ((_Q, normal(2, 6, 2, 5), normal(2, 6, 2, 5)), {"causal": True}),
    ((normal(2, 3, 2, 5), normal(2, 6, 2, 5), normal(2, 6, 2, 5), _KEYS), {"causal": True}),
    ((normal(1, 1, 1, 1),) * 3, {"causal": True}),
    ((normal(0, 3, 4, 5), normal(0, 6, 4, 5), normal(0, 6, 4, 5)), {"causal": False}),
    ((_Q, normal(2, 6, 2, 5), normal(2, 6, 2, 5), _SEED), {"causal": True, "dropout": 0.4}),
]


# Mutations and orders of threads are tried in the first dtype: that of the tensor cores, too.
_HALVES_FIRST = {"_dtypes": ("float16", "bfloat16", "float32")}


def _operands(batch, queries, keys, heads, key_heads, width):
    pair = (normal(batch, keys, key_heads, width),) * 2
    return normal(batch, queries, heads, width), *pair


def _mask(*shape, share=0.6):
    """A mask that allows every query its first key."""
    allowed = np.random.default_rng(0).random(shape) < share
    allowed[..., 0] = True
    return array(allowed, "bool")


def _lost(*shape):
    """A mask that allows some queries nothing, the first and the last among them."""
    allowed = np.random.default_rng(0).random(shape) < 0.5
    allowed[..., [0, shape[2] // 2, shape[2] - 1], :] = False
    return allowed


_TILED = [  # one row for each thing that the kernels do, at lengths around their tiles
    (_operands(1, 130, 65, 2, 2, 8), {"causal": False}),
    (_operands(1, 65, 31, 2, 1, 32), {"causal": True, **_HALVES_FIRST}),
    (_operands(1, 31, 65, 4, 2, 64), {"causal": True, **_HALVES_FIRST}),
    (_operands(1, 65, 65, 1, 1, 128), {"causal": True}),
    ((*_operands(1, 64, 33, 1, 1, 72), _mask(1, 1, 64, 33)), {"causal": False, **_HALVES_FIRST}),
    ((*_operands(2, 33, 64, 2, 1, 8), _mask(2, 2, 1, 64)), {"causal": True}),
    ((*_operands(2, 1, 33, 2, 1, 40), _mask(2, 1, 1, 33)), {"causal": False, **_HALVES_FIRST}),
    (_operands(1, 1, 1, 1, 1, 16), {"causal": True}),
    ((*_operands(2, 33, 31, 2, 1, 8), _SEED), {"causal": False, "dropout": 0.3}),
    ((*_operands(1, 66, 70, 2, 1, 64), _SEED), {"causal": True, "dropout": 0.5, **_HALVES_FIRST}),
    (
        (*_operands(1, 17, 9, 1, 1, 128), _mask(1, 1, 17, 9), _SEED),
        {"causal": True, "dropout": 0.2, **_HALVES_FIRST},
    ),
]


# More keys and queries than the C++ kernels hold scores of at a time.
_LATE = np.random.default_rng(1).random((1, 1, 70, 300)) < 0.5
_LATE[:, :, 5:20, :260] = False  # the first keys that these queries may attend to
_LONG = {"_grad": False, "_dtypes": ("float32",), "_tol": 4}
_BLOCKS = [
    (_operands(1, 70, 530, 1, 1, 8), {"causal": False}),
    (_operands(1, 280, 290, 1, 1, 12), {"causal": True}),
    ((*_operands(1, 70, 300, 1, 1, 16), array(_LATE, "bool")), {"causal": False}),
]


def _grad_row(q, k, v, *others, lse=normal, scale=0.4, **settings):
    batch, length, heads, _ = q.shape
    out, row = (batch, length, heads, v.shape[3]), (batch, heads, length)
    inputs = (normal(*out), normal(*row), q, k, v, normal(*out), lse(*row), *others)
    return case(*inputs, scale=scale, **{"_tol": 8, **settings})


def _tiled_grad_row(q, *others, **settings):
    """Scores and their log-sum-exp as they are in a layer, so that no weight is much above 1."""
    lse = functools.partial(uniform, 2.0, 4.0)
    return _grad_row(q, *others, lse=lse, scale=q.shape[3] ** -0.5, **settings)


def _lost_grad_row(causal):
    """Rows whose log-sum-exp says that no key was allowed; it is no number of a half."""
    q, k, v = _operands(1, 130, 66, 1, 1, 8)
    mask = _lost(1, 1, 130, 66)
    lse = np.where(mask.any(-1), 2.0, -(2.0**127))
    inputs = (normal(1, 130, 1, 8), normal(1, 1, 130), q, k, v, normal(1, 130, 1, 8), array(lse))
    settings = {"_grad": False, "_dtypes": ("float32",), "_tol": 8}
    return case(*inputs, array(mask, "bool"), scale=0.4, causal=causal, **settings)


CASES = {
    "attention": [
        *[case(*inputs, scale=0.4, **kinds, _tol=2) for inputs, kinds in _SMALL + _TILED],
        *[case(*inputs, scale=0.4, **kinds, **_LONG) for inputs, kinds in _BLOCKS],
        # The log-sum-exp of a query without keys is huge: no differences can be taken of it.
        case(_Q, _K, _K, _NONE, scale=0.4, causal=False, _grad=False),
        *[
            case(*_operands(1, 130, 66, 1, 1, 8), array(_lost(1, 1, 130, 66), "bool"), scale=0.4,
                 causal=causal, _grad=False, _tol=2)
            for causal in (False, True)
        ],
    ],
    "attention_grad": [
        *[_grad_row(*inputs, **kinds) for inputs, kinds in _SMALL],
        *[_tiled_grad_row(*inputs, **kinds) for inputs, kinds in _TILED],
        *[_tiled_grad_row(*inputs, **kinds, **_LONG) for inputs, kinds in _BLOCKS],
        *[_lost_grad_row(causal) for causal in (False, True)],
    ],
}  # fmt: skip
