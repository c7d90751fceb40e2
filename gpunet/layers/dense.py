"""Layers that multiply by a matrix: Dense and EinsumDense."""

import re
from typing import Any

from gpunet import initializers, ops
from gpunet.errors import ArgumentError, ShapeError, received
from gpunet.layers.affine import finish
from gpunet.layers.base import Layer
from gpunet.layers.input_spec import InputSpec
from gpunet.layers.options import options_config, positive_int, set_options, unsupported
from gpunet.saving import serializable

_OPTIONS = (
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


@serializable("keras.layers")
class Dense(Layer):
    """A fully connected layer: `activation(inputs @ kernel + bias)`.

    Args:
        units: Length of the output's last axis, positive.
        activation: Activation or its name; default none.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of the kernel, of shape `(last input length, units)`.
        bias_initializer: Initializer of the bias, of shape `(units,)`.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the output.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        lora_rank: Not supported; must be `None`.
        lora_alpha: Not supported; must be `None`.
        quantization_config: Not supported; must be `None`.
        **kwargs: Arguments of `Layer`.

    Call arguments: `inputs` of shape `(batch, ..., length)`; returns `(batch, ..., units)`.

    Raises:
        ArgumentError: If `units` is not a positive integer.

    Example:
        >>> import gpunet
        >>> gpunet.layers.Dense(4, activation="relu")(gpunet.ops.ones((2, 3))).shape
        (2, 4)
    """

    treats_examples_alone = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        unsupported(lora_rank=lora_rank, lora_alpha=lora_alpha)
        unsupported(quantization_config=quantization_config)
        positive_int("units", units)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units, self.use_bias = units, use_bias
        set_options(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Any) -> Any:
        """Returns `activation(inputs @ kernel + bias)`."""
        return finish(ops.matmul(inputs, self.kernel.value), self.bias, self.activation)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the input's shape with `units` as last length."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {"units": self.units, "use_bias": self.use_bias}
        return {**super().get_config(), **config, **options_config(self, "activation", *_OPTIONS)}


@serializable("keras.layers")
class EinsumDense(Layer):
    """A dense layer over any axes: `activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: Einsum equation of inputs and kernel, such as `"abc,cd->abd"`; `...` may stand for
            leading or middle axes.
        output_shape: Lengths of the output's axes after the batch; `None` where they are those of
            the input, and for axes under `...`.
        activation: Activation or its name; default none.
        bias_axes: Letters of the output's axes that the bias has; default no bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        lora_rank: Not supported; must be `None`.
        lora_alpha: Not supported; must be `None`.
        quantization_config: Not supported; must be `None`.
        **kwargs: Arguments of `Layer`.

    Raises:
        ArgumentError: If the equation is not one of two operands.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.EinsumDense("abc,cd->abd", (None, 8), bias_axes="d")
        >>> layer(gpunet.ops.ones((2, 5, 3))).shape
        (2, 5, 8)
    """

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        unsupported(lora_rank=lora_rank, lora_alpha=lora_alpha)
        unsupported(quantization_config=quantization_config)
        super().__init__(**kwargs)
        if not isinstance(equation, str):
            raise ArgumentError(f"`equation` must be a string. {received(equation=equation)}")
        self.equation, self.bias_axes = equation, bias_axes
        self.partial_output_shape = (
            (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        )
        set_options(
            self,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def _plan_shapes(self, input_shape):
        return einsum_shapes(self.equation, self.bias_axes, input_shape, self.partial_output_shape)

    def build(self, input_shape: Any) -> None:
        """Makes the kernel and the bias."""
        shapes = self._plan_shapes(input_shape)
        self.input_spec = InputSpec(ndim=len(input_shape))
        self.kernel = self.add_weight(
            name="kernel",
            shape=shapes["kernel"],
            initializer=self._initializer_for(shapes),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if shapes["bias"] is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=shapes["bias"],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _initializer_for(self, shapes):
        """Tells a fan-in/fan-out initializer which axes of the kernel are which."""
        given = self.kernel_initializer
        fans = ("input_axes", "output_axes")
        if not isinstance(given, initializers.VarianceScaling) or any(
            not hasattr(given, name) for name in fans
        ):
            return given
        if all(getattr(given, name) is not None for name in fans):
            return given
        config = {**given.get_config(), "seed": given.seed, **{n: shapes[n] for n in fans}}
        return type(given).from_config(config)

    def call(self, inputs: Any) -> Any:
        """Returns `activation(einsum(equation, inputs, kernel) + bias)`."""
        x = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None and self.bias.ndim > 1:
            return finish(ops.add(x, self.bias), None, self.activation)
        return finish(x, self.bias, self.activation)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape the equation gives."""
        return self._plan_shapes(input_shape)["output"]

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        config = {
            "output_shape": self.partial_output_shape,
            "equation": self.equation,
            "bias_axes": self.bias_axes,
        }
        names = ("activation", "activity_regularizer", *_OPTIONS)
        return {**super().get_config(), **config, **options_config(self, *names)}


def einsum_shapes(
    equation: str, bias_axes: str | None, input_shape: Any, output_shape: tuple
) -> dict[str, Any]:
    """Returns the shapes of kernel, bias and output of an `EinsumDense`.

    Returns:
        Dict with `kernel`, `bias` (or `None`), `output`, and the kernel's `input_axes` and
        `output_axes`.

    Raises:
        ArgumentError: If the equation cannot be read.
        ShapeError: If input, equation and output shape do not go together.
    """
    match = re.fullmatch(r"(\.{3})?(\w+)(\.{3})?,(\w+)->(\.{3})?(\w+)(\.{3})?", equation)
    if match is None or match[1] != match[5] or match[3] != match[7] or (match[1] and match[3]):
        raise ArgumentError(
            f"Invalid einsum equation '{equation}'. Equations must be in the form [X],[Y]->[Z], "
            "...[X],[Y]->...[Z], or [X]...,[Y]->[Z].... " + received(equation=equation)
        )
    left, inputs, kernel, outputs = bool(match[1]), match[2], match[4], match[6]
    input_shape = tuple(input_shape)
    extra = len(input_shape) - len(inputs)
    if extra < 0 or (extra and not (left or match[3])):
        raise ShapeError(
            f"The equation '{equation}' does not fit the input. {received(shape=input_shape)}"
        )
    lengths = dict(zip(inputs, input_shape[extra:] if left else input_shape, strict=False))
    given = _given_lengths(equation, outputs, output_shape, lengths, extra, left)
    for letter in kernel:
        if letter not in lengths and letter not in given:
            raise ShapeError(
                f"Weight dimension '{letter}' did not have a match in either the input spec "
                f"'{inputs}' or the output spec '{outputs}'. {received(equation=equation)}"
            )
    known = {**lengths, **{k: v for k, v in given.items() if v is not None}}
    elided = input_shape[:extra] if left else input_shape[len(inputs) :]
    named = tuple(known[letter] for letter in outputs)
    bias = None
    if bias_axes:
        bias = _bias_shape(outputs, bias_axes, known, len(elided) if not left else 0)
    return {
        "kernel": tuple(known[letter] for letter in kernel),
        "bias": bias,
        "output": (*elided, *named) if left else (*named, *elided),
        "input_axes": [i for i, letter in enumerate(kernel) if letter not in outputs],
        "output_axes": [i for i, letter in enumerate(kernel) if letter in outputs],
    }


def _given_lengths(equation, outputs, output_shape, lengths, extra, left):
    """Returns the lengths of the output's letters that `output_shape` tells."""
    if left:  # the elided axes, with the batch among them, come first
        wanted = output_shape[len(output_shape) - len(outputs) :] if extra else None
        if wanted is None:
            wanted = (None, *output_shape)[-len(outputs) :]
        if len(wanted) < len(outputs):
            wanted = (None,) * (len(outputs) - len(wanted)) + tuple(wanted)
    else:
        wanted = (None, *output_shape)[: len(outputs)]
    given = dict(zip(outputs, wanted, strict=False))
    for letter in outputs:
        length = given.get(letter)
        if letter in lengths:
            mine = lengths[letter]
            if length is not None and mine is not None and mine != length:
                raise ShapeError(
                    f"Input shape and output shape do not match at shared dimension '{letter}' of "
                    f"'{equation}'. {received(input=mine, output=length)}"
                )
        elif length is None:
            raise ShapeError(
                f"Dimension '{letter}' was specified in the output of '{equation}' but has no "
                f"corresponding dimension in the input or `output_shape`. "
                + received(output_shape=output_shape)
            )
    return given


def _bias_shape(outputs, bias_axes, known, trailing):
    for letter in bias_axes:
        if letter not in outputs:
            raise ArgumentError(
                f"Bias dimension '{letter}' was requested, but is not part of the output spec "
                f"'{outputs}'. {received(bias_axes=bias_axes)}"
            )
    first = min(outputs.find(letter) for letter in bias_axes)
    shape = [known[letter] if letter in bias_axes else 1 for letter in outputs[first:]]
    return (*shape, *(1,) * trailing)
