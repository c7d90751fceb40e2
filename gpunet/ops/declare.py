"""Declaring elementwise ops: `unary` and `binary`, and what brings operands together.

One statement makes the primitive with its rules, and the public function with its docstring. Two
operands are brought to one dtype first (JAX's promotion).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunet.core.primitive import Primitive
from gpunet.core.symbolic import public
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import BFLOAT16, numpy_dtype, result_type
from gpunet.ops.elementwise_launch import binary_rule, cast_rule, unary_rule
from gpunet.ops.elementwise_native import cast_native, has_kernel, native_rule

cast_primitive = Primitive("cast(x, *, dtype) -> y")
cast_primitive.array(lambda xp, x, dtype: x.astype(dtype))
cast_primitive.cuda(cast_rule)
cast_primitive.native(cast_native)
cast_primitive.infer(lambda x, dtype: Symbol(x.shape, dtype))
cast_primitive.vjp(lambda g, x_dtype, dtype: cast_to(g, x_dtype))

identity_primitive = Primitive("identity(x) -> y")
identity_primitive.array(lambda xp, x: x)
identity_primitive.infer(lambda x: Symbol(x.shape, x.dtype))
identity_primitive.vjp(lambda g: g)


def cast_to(x: Tensor, dtype: np.dtype) -> Tensor:
    """Returns a tensor in a NumPy dtype: itself where it has that already."""
    return x if x.data.dtype == dtype else cast_primitive(x, dtype=dtype)


def operands(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Returns two tensor-likes as tensors of one dtype; Python scalars take the other's."""
    if type(x1) is Tensor and type(x2) is Tensor:
        if x1.data.dtype == x2.data.dtype:
            return x1, x2
    elif type(x1) in SCALARS:
        x2 = as_tensor(x2)
        x1 = x1 if type(x1) is Tensor else _scalar(x1, x2)
    elif type(x2) in SCALARS:
        x1 = as_tensor(x1)
        x2 = _scalar(x2, x1)
    else:
        # NumPy and CuPy arrays follow the tensor they meet to its device.
        x1 = as_tensor(x1, device=getattr(x2, "device", None) if _is_ours(x2) else None)
        x2 = as_tensor(x2, device=x1.device)
    if x1.data.dtype == x2.data.dtype:
        return x1, x2
    dtype = numpy_dtype(result_type(x1.data.dtype, x2.data.dtype))
    return cast_to(x1, dtype), cast_to(x2, dtype)


SCALARS = (int, float, bool)
INT32 = np.dtype(np.int32)


def _is_ours(x):
    return hasattr(x, "__gpunet_tensor__") or type(x) is Tensor


def _scalar(value, other):
    """A Python scalar as a tensor on the other operand's device, kept on the host (no copy)."""
    dtype = other.data.dtype
    if not (type(value) is float and (dtype.kind == "f" or dtype == BFLOAT16)):
        dtype = numpy_dtype(result_type(dtype, type(value)))
    return Tensor(dtype.type(value), other.device)


def broadcast_infer(*xs: Symbol) -> Symbol:
    """The `infer` rule of ops whose operands broadcast."""
    return Symbol(np.broadcast_shapes(*[x.shape for x in xs]), xs[0].dtype)


def floating(x: Any) -> Tensor:
    """Returns a tensor-like as a float tensor: integers and bools become `floatx()`."""
    x = as_tensor(x)
    if x.data.dtype.kind in "biu":
        return cast_primitive(x, dtype=numpy_dtype(result_type(x.data.dtype, float)))
    return x


def counted(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Like `operands`, but two bools count as int32."""
    x1, x2 = operands(x1, x2)
    if x1.data.dtype == bool:
        return cast_to(x1, INT32), cast_to(x2, INT32)
    return x1, x2


def _document(f, name, doc, example, arguments):
    f.__name__ = f.__qualname__ = name
    f.__module__ = "gpunet.ops"
    example = f"\n\n    Example:\n        >>> import gpunet\n        {example}" if example else ""
    f.__doc__ = f"{doc}\n\n    Args:\n{arguments}\n\n    Returns:\n        Tensor.{example}\n    "
    return public(f)


def unary(
    name: str,
    doc: str,
    vjp: Callable | None = None,
    array: Callable | None = None,
    example: str = "",
    to_float: bool = True,
    result: Any = None,
    kernel: bool = True,
) -> Callable:
    """Declares an op of one operand.

    Args:
        name: Name of the op; also that of the NumPy function unless `array` is given.
        doc: First paragraph of the docstring.
        vjp: Cotangent rule; `None` for ops without a gradient.
        array: `f(xp, x)`, where NumPy has no function of this name.
        example: Doctest line(s).
        to_float: Whether integers are cast to `floatx()` first.
        result: Dtype of the result where it is not the operand's.
        kernel: Whether `scalar.cuh` has a functor of this name.
    """
    primitive = Primitive(f"{name}(x) -> y")
    if array is None:
        primitive.cpu(getattr(np, name))
        array = lambda xp, x: getattr(xp, name)(x)  # noqa: E731
    primitive.array(array)
    if kernel:
        primitive.cuda(unary_rule(name, partial(array, np), result))
    if has_kernel(name):
        primitive.native(native_rule(name))
    primitive.infer(lambda x: Symbol(x.shape, result or x.dtype))
    if vjp is not None:
        primitive.vjp(vjp)
    if to_float:

        def op(x):
            return primitive(floating(x))
    else:

        def op(x):
            return primitive(as_tensor(x))

    return _document(op, name, doc, example, "        x: Tensor of any shape.")


def binary(
    name: str,
    doc: str,
    vjp: Callable | None = None,
    array: Callable | None = None,
    example: str = "",
    to_float: bool = False,
    result: Any = None,
    kernel: bool = True,
    names: tuple[str, str] = ("x1", "x2"),
    count_bools: bool = False,
) -> Callable:
    """Declares an op of two operands that broadcast; see `unary`.

    Args:
        name: Name of the op; also that of the NumPy function unless `array` is given.
        doc: First paragraph of the docstring.
        vjp: Cotangent rule; `None` for ops without a gradient.
        array: `f(xp, x1, x2)`, where NumPy has no function of this name.
        example: Doctest line(s).
        to_float: Whether integers are cast to `floatx()` first.
        result: Dtype of the result where it is not that of the operands.
        kernel: Whether `scalar.cuh` has a functor of this name.
        names: Keras's names of the operands.
        count_bools: Whether two bools are computed with as int32.
    """
    primitive = Primitive(f"{name}(x1, x2) -> y")
    if array is None:
        primitive.cpu(getattr(np, name))
        array = lambda xp, x1, x2: getattr(xp, name)(x1, x2)  # noqa: E731
    primitive.array(array)
    if kernel:
        primitive.cuda(binary_rule(name, partial(array, np), result))
    if has_kernel(name):
        primitive.native(native_rule(name))
    if result is None:
        primitive.infer(broadcast_infer)
    else:
        primitive.infer(lambda *xs: Symbol(broadcast_infer(*xs).shape, result))
    if vjp is not None:
        primitive.vjp(vjp)
    first, second = names
    convert = counted if count_bools else operands

    def op(x1, x2):
        return primitive(*convert(x1, x2))

    def float_op(x1, x2):
        x1, x2 = operands(x1, x2)
        return primitive(floating(x1), floating(x2))

    def op_of_xy(x, y):
        return primitive(*convert(x, y))

    arguments = (
        f"        {first}: Tensor.\n"
        f"        {second}: Tensor whose shape broadcasts with that of `{first}`."
    )
    chosen = float_op if to_float else op_of_xy if names == ("x", "y") else op
    return _document(chosen, name, doc, example, arguments)
