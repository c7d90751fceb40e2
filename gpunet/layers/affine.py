"""What ends a layer that multiplies by a kernel: the bias and the activation, in one op."""

from typing import Any

from gpunet import activations
from gpunet.ops.bias_activation import bias_activation

_FUSED = {
    activations.linear: "linear",
    activations.relu: "relu",
    activations.tanh: "tanh",
    activations.sigmoid: "sigmoid",
    activations.silu: "silu",
    activations.gelu: "gelu",
}


def finish(x: Any, bias: Any, activation: Any) -> Any:
    """Returns `activation(x + bias)`; the bias belongs to the last axis, and may be `None`."""
    if activation is None:
        activation = activations.linear
    if bias is None:
        return activation(x)
    name = _FUSED.get(activation)
    if name is None:
        return activation(bias_activation(x, bias.value))
    return bias_activation(x, bias.value, name)
