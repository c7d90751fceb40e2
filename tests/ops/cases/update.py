"""Rows for `gpunet/ops/update.py`."""

from tests.ops.case import array, case, integers, normal, uniform

_RATE = array(0.125)  # exact in every float dtype
_STEP = integers(2, 9)
_ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3}
_RMSPROP = {"rho": 0.9, "epsilon": 1e-3}


def _weights(*shape, slots=0, positive=0):
    """A weight, its gradient, slots of any sign, and slots that hold squares."""
    squares = [uniform(0.5, 2.0, *shape) for _ in range(positive)]
    return [*[normal(*shape) for _ in range(2 + slots)], *squares]


SHAPES = [(5, 3), (), (0, 4), (129, 131)]
_SCALE = array(0.5)
_LION = {"beta_1": 0.75, "beta_2": 0.9}
CASES = {
    "sgd_update": [
        *[case(*_weights(*s), _RATE, weight_decay=0.0) for s in SHAPES],
        case(*_weights(7), _RATE, weight_decay=0.5),
        case(*_weights(33), _RATE, _SCALE, weight_decay=0.5),
    ],
    "momentum_update": [
        case(*_weights(*s, slots=1), _RATE, momentum=0.75, nesterov=nesterov, weight_decay=decay)
        for s in SHAPES
        for nesterov, decay in ((False, 0.0), (True, 0.0), (False, 0.5), (True, 0.5))
    ]
    + [
        case(
            *_weights(33, slots=1),
            _RATE,
            _SCALE,
            momentum=0.75,
            nesterov=True,
            weight_decay=0.5,
        )
    ],
    "rmsprop_update": [
        case(*_weights(*s, positive=1), _RATE, **_RMSPROP, weight_decay=decay, _tol=4)
        for s in SHAPES
        for decay in (0.0, 0.5)
    ]
    + [case(*_weights(33, positive=1), _RATE, _SCALE, **_RMSPROP, weight_decay=0.0, _tol=4)],
    "adam_update": [
        case(*_weights(*s, slots=1, positive=1), _RATE, _STEP, **_ADAM, weight_decay=decay, _tol=4)
        for s in SHAPES
        for decay in (0.0, 0.5)
    ]
    + [
        case(
            *_weights(33, slots=1, positive=1),
            _RATE,
            _STEP,
            _SCALE,
            **_ADAM,
            weight_decay=0.5,
            _tol=4,
        )
    ],
    "lion_update": [
        case(*_weights(*s, slots=1), _RATE, *scale, **_LION, weight_decay=decay, _grad=False)
        for s, scale, decay in (
            ((5, 3), (), 0.5),
            ((), (), 0.0),
            ((0, 4), (), 0.0),
            ((129, 131), (), 0.0),
            ((33,), (_SCALE,), 0.5),
        )
    ],
    "sgd_updates": [
        case(_RATE, normal(2, 3), normal(4), normal(2, 3), normal(4), weight_decay=0.5),
        case(_RATE, normal(3), normal(3), weight_decay=0.0),
        case(  # several weights for one thread, and one for several threads
            _RATE,
            *[r for _ in range(2) for r in (normal(300), normal(90, 91), normal(131, 129))],
            weight_decay=0.0,
            _grad=False,
        ),
    ],
    "momentum_updates": [
        case(
            _RATE,
            *[r for _ in range(3) for r in (normal(2, 3), normal(), normal(4))],
            momentum=0.75,
            nesterov=nesterov,
            weight_decay=0.5,
        )
        for nesterov in (False, True)
    ],
    "rmsprop_updates": [
        case(
            _RATE,
            *[r for _ in range(2) for r in (normal(2, 3), normal(4))],
            uniform(0.5, 2.0, 2, 3),
            uniform(0.5, 2.0, 4),
            **_RMSPROP,
            weight_decay=0.0,
            _tol=4,
        )
    ],
    "adam_updates": [
        case(
            _RATE,
            _STEP,
            *[r for _ in range(3) for r in (normal(2, 3), normal(), normal(0, 4))],
            *[uniform(0.5, 2.0, *s) for s in ((2, 3), (), (0, 4))],
            **_ADAM,
            weight_decay=0.5,
            _tol=4,
        )
    ],
    "lion_updates": [
        case(
            _RATE,
            *[r for _ in range(3) for r in (normal(2, 3), normal(), normal(4))],
            **_LION,
            weight_decay=0.5,
            _grad=False,
        )
    ],
    "sum_squares": [
        case(normal(4, 7)),
        case(normal(4, 7), normal(), normal(0, 3), normal(33)),
        case(normal(5001), normal(1023), _grad=False),  # several chunks of one tensor
        case(normal(7), normal(35000), normal(16384), _grad=False),
        case(normal(0, 3)),
    ],
    "all_finite": [
        case(normal(4, 7)),
        case(normal(0, 3)),
        case(normal(4, 7), normal(), array([1.0, float("inf"), 2.0]), normal(33)),
        case(normal(5001), array([1.0] * 32 + [float("nan")])),
        case(normal(5001), array(float("-inf"))),
        case(normal(70001), array([0.0]), _grad=False),
    ],
    "average_update": [case(normal(*s), normal(*s), momentum=0.75) for s in ((3, 5), (), (0, 2))],
}
