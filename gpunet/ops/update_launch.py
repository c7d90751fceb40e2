"""How optimizer kernels are launched: the `cuda` rules of `gpunet/ops/update.py`."""

from typing import Any

import numpy as np

from gpunet.backend.kernels import cuda_type, empty_like, launch
from gpunet.ops.elementwise_launch import BLOCK, contiguous, grid_for


def _scalar(x: Any) -> Any:
    """Returns a scalar tensor's data as a float32 array of one element, on its device."""
    return contiguous(x.astype(np.float32))


def _launch(kernel, arrays, scalars, slots, flags=(), settings=()):
    arrays = [contiguous(x) for x in arrays]
    w = arrays[0]
    outs = [empty_like(w) for _ in range(1 + slots)]
    args = (*arrays, *map(_scalar, scalars), *outs, w.size, *settings)
    types = (cuda_type(w.dtype), *flags, BLOCK)
    launch("update.cu", kernel, types, grid=grid_for(w.size), block=BLOCK, args=args)
    return tuple(outs) if slots else outs[0]


def sgd_rule(w: Any, g: Any, learning_rate: Any, *, weight_decay: float) -> Any:
    """The `cuda` rule of `sgd_update`."""
    return _launch("sgd_update", (w, g), (learning_rate,), 0, settings=(float(weight_decay or 0),))


def momentum_rule(w, g, m, learning_rate, *, momentum, nesterov, weight_decay) -> Any:
    """The `cuda` rule of `momentum_update`."""
    settings = (float(momentum), float(weight_decay or 0))
    flags = (bool(nesterov),)
    return _launch("momentum_update", (w, g, m), (learning_rate,), 1, flags, settings)


def rmsprop_rule(w, g, v, learning_rate, *, rho, epsilon, weight_decay) -> Any:
    """The `cuda` rule of `rmsprop_update`."""
    settings = (float(rho), float(epsilon), float(weight_decay or 0))
    return _launch("rmsprop_update", (w, g, v), (learning_rate,), 1, settings=settings)


def adam_rule(w, g, m, v, learning_rate, step, *, beta_1, beta_2, epsilon, weight_decay) -> Any:
    """The `cuda` rule of `adam_update`."""
    betas = (np.float64(beta_1), np.float64(beta_2))
    settings = (*betas, float(epsilon), float(weight_decay or 0))
    return _launch("adam_update", (w, g, m, v), (learning_rate, step), 2, settings=settings)
