"""Rows for `gpunet/ops/activation.py`."""

from tests.ops.case import case, normal, uniform

_ANY = [case(normal(5, 7)), case(uniform(-9, 9, 31)), case(normal()), case(normal(0, 3))]
_PAIRS = [case(normal(5, 7), normal(5, 7)), case(normal(), normal())]

CASES = {
    **{
        name: _ANY
        for name in (
            "relu",
            "relu6",
            "sigmoid",
            "silu",
            "log_sigmoid",
            "softplus",
            "softsign",
            "hard_sigmoid",
            "hard_silu",
            "mish",
        )
    },
    "relu_grad": _PAIRS,
    "silu_grad": _PAIRS,
    "sigmoid_grad": [case(normal(5, 7), uniform(0, 1, 5, 7)), case(normal(), uniform(0, 1))],
    "leaky_relu": [
        case(normal(5, 7), slope=0.2),
        case(normal(3), slope=2.0),
        case(normal(), slope=0.2),
        case(normal(2, 0), slope=0.2),
    ],
    "elu": [
        case(normal(5, 7), alpha=1.0, scale=1.0, rate=1.0),
        case(normal(9), alpha=1.67, scale=1.05, rate=1.0),
        case(normal(), alpha=0.5, scale=1.0, rate=2.0),
        case(normal(0, 2), alpha=1.0, scale=1.0, rate=1.0),
    ],
    "gelu": [
        case(normal(*shape), approximate=approximate)
        for approximate in (True, False)
        for shape in ((5, 7), (), (3, 0))
    ],
    "gelu_grad": [
        case(normal(5, 7), normal(5, 7), approximate=True),
        case(normal(5, 7), normal(5, 7), approximate=False),
        case(normal(), normal(), approximate=False),
    ],
}
