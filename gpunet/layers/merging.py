"""Layers that make one tensor of several: Add, Multiply, Concatenate, Dot and others."""

from typing import Any

from gpunet import ops
from gpunet.core.symbolic import KerasTensor
from gpunet.errors import ArgumentError, DTypeError, ShapeError, received
from gpunet.layers.base import Layer
from gpunet.saving import serializable


class Merge(Layer):
    """Base of the layers that merge a list of tensors whose shapes broadcast, elementwise.

    A tensor with fewer axes than the others gets new ones after the batch.
    """

    least = 1

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        self._check_list(input_shape)
        batches = {shape[0] for shape in input_shape if shape} - {None}
        if len(batches) > 1:
            raise ShapeError(
                "Cannot merge tensors with different batch sizes. "
                + received(shapes=[tuple(s) for s in input_shape])
            )
        self.compute_output_shape(input_shape)

    def _check_list(self, input_shape):
        name = type(self).__name__
        if not isinstance(input_shape, (list, tuple)) or not all(
            isinstance(shape, (list, tuple)) for shape in input_shape
        ):
            raise ArgumentError(
                f"A `{name}` layer should be called on a list of inputs. "
                + received(input_shape=input_shape)
            )
        if len(input_shape) < self.least:
            raise ArgumentError(
                f"A `{name}` layer should be called on a list of at least {self.least} input(s). "
                + received(input_shape=input_shape)
            )

    def call(self, inputs: Any) -> Any:
        """Returns the inputs merged."""
        if not isinstance(inputs, (list, tuple)):
            raise ArgumentError(
                f"A `{type(self).__name__}` layer should be called on a list of inputs. "
                + received(inputs=inputs)
            )
        return self._merge(self._same_rank(list(inputs)))

    def _same_rank(self, inputs):
        rank = max(len(x.shape) for x in inputs)
        for i, x in enumerate(inputs):
            missing = rank - len(x.shape)
            if missing:
                wide = ops.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))
                inputs[i] = _with_mask(wide, _mask(x))
        return inputs

    def _merge(self, inputs: list) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define `_merge`.")

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape that the inputs broadcast to."""
        merged: tuple = ()
        for shape in input_shape:
            merged = _broadcast(merged, tuple(shape[1:]), input_shape)
        batches = {shape[0] for shape in input_shape} - {None}
        return (batches.pop() if len(batches) == 1 else None, *merged)

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        """Returns the result as a KerasTensor."""
        return KerasTensor(self.compute_output_shape([x.shape for x in inputs]), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns where any of the masks is true; `None` if an input has none."""
        _check_masks(inputs, mask)
        if mask is None or any(m is None for m in mask):
            return None
        merged = mask[0]
        for other in mask[1:]:
            merged = ops.logical_or(merged, other)
        return merged


def _mask(x):
    return getattr(x, "_keras_mask", None)


def _with_mask(x, mask):
    if mask is not None:
        x._keras_mask = mask
    return x


def _check_masks(inputs, mask):
    if mask is None:
        return
    if not isinstance(mask, (list, tuple)) or not isinstance(inputs, (list, tuple)):
        raise ArgumentError(f"`inputs` and `mask` should be lists. {received(mask=mask)}")
    if len(mask) != len(inputs):
        raise ArgumentError(
            "The lists `inputs` and `mask` should have the same length. "
            + received(inputs=len(inputs), mask=len(mask))
        )


def _broadcast(a, b, shapes):
    """Broadcasts two shapes; an unknown length stays unknown."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    result = list(longer)
    for i, d in enumerate(shorter, len(longer) - len(shorter)):
        mine = longer[i]
        if mine is None or d is None:
            result[i] = None
        elif mine != d and 1 not in (mine, d):
            raise ShapeError(
                f"Inputs have incompatible shapes. {received(shapes=[tuple(s) for s in shapes])}"
            )
        else:
            result[i] = max(mine, d) if 0 not in (mine, d) else 0
    return tuple(result)


def _spread(mask, x):
    """A mask of steps as a mask of all elements."""
    return ops.broadcast_to(ops.expand_dims(mask, -1), x.shape)


def _fold_masked(op, inputs):
    """Folds the inputs; where one is masked out the other is taken."""
    output, output_mask = None, None
    for x in inputs:
        mask = _mask(x)
        mask = None if mask is None else _spread(mask, x)
        if output is None:
            output, output_mask = x, mask
            continue
        if mask is not None:
            x = ops.where(mask, x, output)
        if output_mask is not None:
            output = ops.where(output_mask, output, x)
        both = mask is not None and output_mask is not None
        output_mask = ops.logical_or(output_mask, mask) if both else None
        output = op(output, x)
    return _with_mask(output, None if output_mask is None else ops.any(output_mask, axis=-1))


@serializable("keras.layers")
class Add(Merge):
    """The sum of the inputs, a list of tensors.

    Example:
        >>> import gpunet
        >>> x = gpunet.ops.ones((2, 3))
        >>> gpunet.layers.Add()([x, x]).shape
        (2, 3)
    """

    def _merge(self, inputs):
        output = inputs[0]
        for x in inputs[1:]:
            output = ops.add(output, x)
        return output


@serializable("keras.layers")
class Average(Add):
    """The mean of the inputs, a list of tensors."""

    def _merge(self, inputs):
        return super()._merge(inputs) / len(inputs)


@serializable("keras.layers")
class Subtract(Merge):
    """The first input minus the second."""

    least = 2

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ArgumentError(
                "A `Subtract` layer should be called on exactly 2 inputs. "
                + received(input_shape=input_shape)
            )

    def _merge(self, inputs):
        if len(inputs) != 2:
            raise ArgumentError(
                "A `Subtract` layer should be called on exactly 2 inputs. "
                + received(inputs=len(inputs))
            )
        return ops.subtract(inputs[0], inputs[1])


@serializable("keras.layers")
class Multiply(Merge):
    """The product of the inputs, a list of tensors; masked steps count as 1."""

    def _merge(self, inputs):
        masks = [None if _mask(x) is None else _spread(_mask(x), x) for x in inputs]
        output = None
        for x, mask in zip(inputs, masks, strict=True):
            x = x if mask is None else ops.where(mask, x, ops.ones_like(x))
            output = x if output is None else ops.multiply(output, x)
        if any(mask is None for mask in masks):
            return output
        kept = masks[0]
        for mask in masks[1:]:
            kept = ops.logical_or(kept, mask)
        output = ops.where(kept, output, ops.zeros_like(output))
        return _with_mask(output, ops.any(kept, axis=-1))


@serializable("keras.layers")
class Maximum(Merge):
    """The largest of the inputs, a list of tensors; masked steps do not count."""

    def _merge(self, inputs):
        return _fold_masked(ops.maximum, inputs)


@serializable("keras.layers")
class Minimum(Merge):
    """The smallest of the inputs, a list of tensors; masked steps do not count."""

    def _merge(self, inputs):
        return _fold_masked(ops.minimum, inputs)


@serializable("keras.layers")
class Concatenate(Merge):
    """The inputs one after the other along an axis.

    Args:
        axis: The axis; all other lengths are the same in all inputs.
        **kwargs: Arguments of `Layer`.

    Raises:
        ShapeError: If other lengths differ.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.Concatenate()
        >>> layer([gpunet.ops.ones((2, 3)), gpunet.ops.ones((2, 4))]).shape
        (2, 7)
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        self.compute_output_shape(input_shape)

    def _same_rank(self, inputs):
        return inputs

    def _merge(self, inputs):
        return ops.concatenate(inputs, axis=self.axis)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the shape of the result."""
        self._check_list(input_shape)
        shapes = [tuple(shape) for shape in input_shape]
        rank = len(shapes[0])
        if any(len(shape) != rank for shape in shapes) or not -rank <= self.axis < rank:
            raise self._mismatch(shapes)
        axis, result = self.axis % rank, []
        for i, lengths in enumerate(zip(*shapes, strict=True)):
            known = {d for d in lengths if d is not None}
            if i == axis:
                result.append(None if None in lengths else sum(lengths))
            elif len(known) > 1:
                raise self._mismatch(shapes)
            else:
                result.append(None if None in lengths and i else next(iter(known), None))
        return tuple(result)

    def _mismatch(self, shapes):
        return ShapeError(
            "A `Concatenate` layer requires inputs with matching shapes except for the "
            f"concatenation axis. {received(axis=self.axis, shapes=shapes)}"
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the masks of the inputs, put together like them."""
        _check_masks(inputs, mask)
        if mask is None or all(m is None for m in mask):
            return None
        masks = []
        for x, m in zip(inputs, mask, strict=True):
            if m is None:
                masks.append(ops.ones_like(x, dtype="bool"))
            elif len(m.shape) < len(x.shape):
                masks.append(
                    ops.logical_or(ops.expand_dims(m, -1), ops.zeros_like(x, dtype="bool"))
                )
            else:
                masks.append(m)
        return ops.any(ops.concatenate(masks, axis=self.axis), axis=-1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "axis": self.axis}


@serializable("keras.layers")
class Dot(Merge):
    """For each example, the products of two tensors summed along an axis of each.

    Args:
        axes: The axis (not that of the batch) in both, or one for each.
        normalize: Whether to divide both by their L2 norm along the axis: the cosine similarity.
        **kwargs: Arguments of `Layer`.

    Raises:
        ShapeError: If the lengths of the axes differ.

    Example:
        >>> import gpunet
        >>> layer = gpunet.layers.Dot(axes=(2, 1))
        >>> layer([gpunet.ops.ones((5, 2, 3)), gpunet.ops.ones((5, 3, 4))]).shape
        (5, 2, 4)
    """

    least = 2

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(axes, (int, list, tuple)):
            raise DTypeError(f"`axes` should be an int or two of them. {received(axes=axes)}")
        if not isinstance(axes, int) and (
            len(axes) != 2 or not all(isinstance(axis, int) for axis in axes)
        ):
            raise ArgumentError(f"`axes` should be an int or two of them. {received(axes=axes)}")
        self.axes, self.normalize = axes, normalize

    def _two_axes(self, shapes):
        axes = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return [axis % len(shape) for axis, shape in zip(axes, shapes, strict=True)]

    def build(self, input_shape: Any) -> None:
        """Checks the shapes."""
        self._check_list(input_shape)
        if len(input_shape) != 2:
            raise ArgumentError(
                "A `Dot` layer should be called on a list of 2 inputs. "
                + received(input_shape=input_shape)
            )
        first, second = self._two_axes(input_shape)
        lengths = input_shape[0][first], input_shape[1][second]
        if None not in lengths and lengths[0] != lengths[1]:
            raise ShapeError(
                f"Incompatible input shapes: axis {first} has length {lengths[0]} and axis "
                f"{second} of the other has {lengths[1]}. {received(shapes=input_shape)}"
            )

    def _same_rank(self, inputs):
        if len(inputs) != 2:
            raise ArgumentError(
                f"A `Dot` layer should be called on exactly 2 inputs. {received(inputs=inputs)}"
            )
        return inputs

    def _merge(self, inputs):
        x, y = inputs
        a, b = self._two_axes((x.shape, y.shape))
        if 0 in (a, b):
            raise ArgumentError(
                f"A `Dot` layer cannot sum over the axis of the batch. {received(axes=self.axes)}"
            )
        if self.normalize:
            x, y = ops.normalize(x, axis=a), ops.normalize(y, axis=b)
        letters = "abcdefghijklmnopqrstuvwxyz"
        mine = letters[: x.ndim]
        other = "a" + letters[x.ndim : x.ndim + y.ndim - 1]
        other = other[:b] + mine[a] + other[b + 1 :]
        kept = mine.replace(mine[a], "") + other[1:].replace(mine[a], "")
        result = ops.einsum(f"{mine},{other}->{kept}", x, y)
        return ops.expand_dims(result, -1) if result.ndim == 1 else result

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Returns the axes that are left of both inputs."""
        first, second = self._two_axes(input_shape)
        kept = [d for i, d in enumerate(input_shape[0]) if i != first]
        kept += [d for i, d in enumerate(input_shape[1]) if i not in (0, second)]
        return (*kept, 1) if len(kept) == 1 else tuple(kept)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Returns `None`."""
        return None

    def get_config(self) -> dict:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def add(inputs: list, **kwargs: Any) -> Any:
    """Returns the sum of tensors; see `Add`."""
    return Add(**kwargs)(inputs)


def average(inputs: list, **kwargs: Any) -> Any:
    """Returns the mean of tensors; see `Average`."""
    return Average(**kwargs)(inputs)


def subtract(inputs: list, **kwargs: Any) -> Any:
    """Returns the first tensor minus the second; see `Subtract`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: list, **kwargs: Any) -> Any:
    """Returns the product of tensors; see `Multiply`."""
    return Multiply(**kwargs)(inputs)


def maximum(inputs: list, **kwargs: Any) -> Any:
    """Returns the largest of tensors; see `Maximum`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: list, **kwargs: Any) -> Any:
    """Returns the smallest of tensors; see `Minimum`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: list, axis: int = -1, **kwargs: Any) -> Any:
    """Returns tensors one after the other along an axis; see `Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: list, axes: Any = -1, **kwargs: Any) -> Any:
    """Returns the products of two tensors summed along an axis; see `Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)
