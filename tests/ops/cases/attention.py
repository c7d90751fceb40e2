"""Rows for `gpunet/ops/attention.py`."""

from tests.ops.case import array, case, normal

_Q, _K = normal(2, 3, 4, 5), normal(2, 6, 4, 5)
_KEYS = array([[[[1, 0, 1, 1, 0, 1]], [[1, 1, 0, 0, 1, 1]]]] * 2, "bool")
_PAIRS = array([[[[1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]]]] * 2, "bool")
_NONE = array([[[[0] * 6, [1] * 6, [0] * 6]]], "bool")
_ROWS = [
    ((_Q, _K, _K), {"causal": False}),
    ((_Q, _K, normal(2, 6, 4, 3), _PAIRS), {"causal": False}),
    ((_Q, normal(2, 6, 2, 5), normal(2, 6, 2, 5)), {"causal": True}),
    ((normal(2, 3, 2, 5), normal(2, 6, 2, 5), normal(2, 6, 2, 5), _KEYS), {"causal": True}),
    ((normal(1, 1, 1, 1),) * 3, {"causal": True}),
    ((normal(0, 3, 4, 5), normal(0, 6, 4, 5), normal(0, 6, 4, 5)), {"causal": False}),
]


def _grad_row(q, k, v, *mask, causal):
    batch, length, heads, _ = q.shape
    out, row = (batch, length, heads, v.shape[3]), (batch, heads, length)
    inputs = (normal(*out), normal(*row), q, k, v, normal(*out), normal(*row), *mask)
    return case(*inputs, scale=0.4, causal=causal, _tol=8)


CASES = {
    "attention": [
        *[case(*inputs, scale=0.4, **kinds, _tol=2) for inputs, kinds in _ROWS],
        # The log-sum-exp of a query without keys is huge: no differences can be taken of it.
        case(_Q, _K, _K, _NONE, scale=0.4, causal=False, _grad=False),
    ],
    "attention_grad": [_grad_row(*inputs, **kinds) for inputs, kinds in _ROWS],
}
