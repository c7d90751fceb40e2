"""Which argument of a Python function goes to which parameter of a kernel: by name, checked early.

Pointers to const are inputs, other pointers are results, scalars are keyword attributes, or one of
the numbers that every kernel can ask for: `n` (elements of the first result), `x_size`, `x_ndim`,
`x_dim0`, `x_stride0` (in elements) of any array `x`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from gpunet.backend.kernels import cuda_type
from gpunet.backend.signature import DTYPES, Parameter, Signature, scalar_type, signatures
from gpunet.errors import ArgumentError, DTypeError, KernelError, ShapeError, received

_INJECTED = re.compile(r"(\w+?)_(size|ndim|dim|stride)(\d*)")
_INTEGERS = ("int", "unsigned int", "long long", "unsigned long long")


def find_kernel(source: str, entry: str | None, file: str) -> Signature:
    """Returns the `__global__` function of a source that `entry` names, or the only one.

    Raises:
        KernelError: If there is none, or several and no name.
    """
    found = signatures(source)
    if entry is None and len(found) == 1:
        return next(iter(found.values()))
    if entry in found:
        return found[entry]
    raise KernelError(
        f"{file}: expected one `__global__ void` function, or `entry=` with the name of one of "
        f"{sorted(found)}. {received(entry=entry)}"
    )


@dataclass(frozen=True)
class Binding:
    """A kernel's parameters, each with what it gets.

    Attributes:
        signature: The kernel.
        inputs: Names of the arrays read, in the order of the Python function.
        outputs: Names of the arrays written, in the order of the kernel.
        attributes: Names of the plain values.
    """

    signature: Signature
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]

    # -- when it is called ----------------------------------------------------------------------

    def types(self, dtypes: dict[str, np.dtype]) -> dict[str, str]:
        """Returns the CUDA type of each `typename` of the template, from the arrays' dtypes.

        Raises:
            DTypeError: If an array has not the dtype that its parameter stores.
        """
        names = {name for kind, name in self.signature.template if kind == "typename"}
        bound: dict[str, str] = {}
        pointers = [p for p in self.signature.parameters if p.pointer]
        for parameter in sorted(pointers, key=lambda p: self.order(p.name)):
            if parameter.type in names and parameter.name in dtypes:
                bound.setdefault(parameter.type, cuda_type(dtypes[parameter.name]))
        for parameter in pointers:
            expected = DTYPES.get(scalar_type(parameter.type, bound))
            actual = dtypes.get(parameter.name, expected)
            if actual != expected:
                raise DTypeError(
                    f"{self.signature.name}: `{parameter}` takes {expected}"
                    f"{_because(parameter, bound)}; cast the {self.role(parameter.name)}, or give "
                    f"it a typename of its own. Received: {parameter.name} of {actual}"
                )
        return bound

    def order(self, name: str) -> int:
        """Returns the place of an array among inputs and outputs."""
        return [*self.inputs, *self.outputs].index(name)

    def role(self, name: str) -> str:
        """Returns what an array is to the kernel: `"input"` or `"result"`."""
        return "input" if name in self.inputs else "result"

    def template(self, types: dict[str, str], attributes: dict, block: int) -> tuple:
        """Returns the template arguments of a launch."""
        values = {**attributes, **types, "BLOCK": block}
        return tuple([values[name] for _, name in self.signature.template])

    def scalars(self, arrays: dict[str, Any], attributes: dict, types: dict) -> dict[str, Any]:
        """Returns the value of each parameter that is no pointer, in its C++ type.

        Raises:
            DTypeError: If an attribute does not fit the type.
            ShapeError: If an array has no such axis.
        """
        return {
            p.name: _number(
                self.signature.name,
                p,
                attributes[p.name] if p.name in attributes else self._injected(p.name, arrays),
                DTYPES[scalar_type(p.type, types)],
            )
            for p in self.signature.parameters
            if not p.pointer
        }

    def _injected(self, name, arrays):
        if name == "n":
            return arrays[self.outputs[0]].size
        array, kind, axis = injected(name, arrays)
        if kind in ("size", "ndim"):
            return getattr(arrays[array], kind)
        x = arrays[array]
        if axis >= x.ndim:
            raise ShapeError(
                f"{self.signature.name}: parameter `{name}` needs an axis {axis} of `{array}`. "
                + received(shape=tuple(x.shape))
            )
        return x.shape[axis] if kind == "dim" else x.strides[axis] // x.dtype.itemsize


def injected(name: str, arrays: Iterable[str]) -> Any:
    """Splits `x_dim0` into `("x", "dim", 0)`; `None` if it names no number of these arrays."""
    match = _INJECTED.fullmatch(name)
    if not match or match[1] not in arrays or bool(match[3]) != (match[2] in ("dim", "stride")):
        return None
    return match[1], match[2], int(match[3] or 0)


def _because(parameter: Parameter, bound: dict[str, str]) -> str:
    names = [name for name in re.findall(r"\w+", parameter.type) if name in bound]
    return "".join(f" (as {name} is {bound[name]})" for name in names)


def _number(kernel, parameter, value, dtype):
    """Returns a plain value in the type of its parameter, refusing what would not fit."""
    whole = isinstance(value, (int, np.integer)) or (
        isinstance(value, (float, np.floating)) and dtype.kind not in "iu"
    )
    if dtype.kind == "b":
        whole = isinstance(value, (bool, np.bool_))
    elif isinstance(value, (bool, np.bool_)):
        whole = False
    if dtype.kind in "iu" and whole:
        limits = np.iinfo(dtype)
        whole = limits.min <= value <= limits.max
    if not whole:
        raise DTypeError(
            f"{kernel}: `{parameter}` takes {'a bool' if dtype.kind == 'b' else 'a number'} that "
            f"fits {dtype.name}. {received(**{parameter.name: value})}"
        )
    return dtype.type(value)


# ---- when it is declared ------------------------------------------------------------------------


def bind(
    signature: Signature,
    inputs: Sequence[str],
    attributes: Sequence[str],
    results: Sequence[str] | None = None,
    also_used: Iterable[str] = (),
) -> Binding:
    """Matches the parameters of a kernel with the names that Python knows.

    Args:
        signature: The kernel.
        inputs: Names of the arrays it may read.
        attributes: Names of the plain values it may take.
        results: Names that its results may have; `None`: any, and all inputs and attributes must
            be used.
        also_used: Names that the launch needs, beside the kernel.

    Raises:
        KernelError: If a parameter matches nothing, or nothing uses an argument.
    """
    outputs = []
    for parameter in signature.parameters:
        _check_type(signature, parameter)
        if not parameter.pointer:
            continue
        if not parameter.const:
            _check_output(signature, parameter, inputs, results)
            outputs.append(parameter.name)
        elif parameter.name not in inputs:
            _mismatch(signature, parameter, "no input", inputs=list(inputs))
    if not outputs:
        raise KernelError(
            f"{signature.name} writes nothing: its results are the pointers that are not const. "
            f"Received: {_shown(signature)}"
        )
    used = {p.name for p in signature.parameters} | {name for _, name in signature.template}
    used |= set(also_used) | _check_scalars(signature, [*inputs, *outputs], attributes)
    _check_template(signature, attributes)
    unused = [name for name in [*inputs, *attributes] if name not in used]
    if unused and results is None:
        raise KernelError(
            f"{signature.name}: the Python function takes {unused}, which no parameter of the "
            f"kernel is named after. Received: {_shown(signature)}"
        )
    return Binding(signature, tuple(inputs), tuple(outputs), tuple(attributes))


def _shown(signature):
    return f"{signature.name}({', '.join(map(str, signature.parameters))})"


def _mismatch(signature, parameter, what, **candidates) -> NoReturn:
    listed = ", ".join(f"{key} {names}" for key, names in candidates.items())
    raise KernelError(
        f"{signature.name}: parameter `{parameter}` matches {what}. Arguments are matched by "
        f"name; there are: {listed}. Received: {_shown(signature)}"
    )


def _check_type(signature, parameter):
    names = {name: "float" for kind, name in signature.template if kind == "typename"}
    if scalar_type(parameter.type, names) not in DTYPES:
        raise KernelError(
            f"{signature.name}: parameter `{parameter}` has a type that Python cannot give; there "
            f"are {sorted(DTYPES)}, pointers to them, and typenames of the template. "
            f"{received(type=parameter.type)}"
        )


def _check_output(signature, parameter, inputs, results):
    if parameter.name in inputs:
        raise KernelError(
            f"{signature.name}: `{parameter.name}` is an input, and inputs do not change: declare "
            f"it `const {parameter.type}*`, and a pointer of another name for the result. "
            f"{received(parameter=str(parameter))}"
        )
    if results is not None and parameter.name not in results:
        _mismatch(signature, parameter, "no result", results=list(results))


def _check_scalars(signature, arrays, attributes):
    """Returns the arrays whose sizes are asked for."""
    used = set()
    for parameter in signature.parameters:
        if parameter.pointer or parameter.name in attributes or parameter.name == "n":
            continue
        number = injected(parameter.name, arrays)
        if number is None:
            given = ["n", *(f"{x}_{kind}" for x in arrays for kind in ("size", "ndim", "dim0"))]
            _mismatch(
                signature, parameter, "no attribute", attributes=list(attributes), numbers=given
            )
        if scalar_type(parameter.type, {}) not in _INTEGERS:
            raise KernelError(
                f"{signature.name}: `{parameter.name}` is a number of elements or axes; declare it "
                f"`long long` or `int`. {received(parameter=str(parameter))}"
            )
        used.add(number[0])
    return used


def _check_template(signature, attributes):
    stored = {p.type for p in signature.parameters if p.pointer}
    for kind, name in signature.template:
        if kind == "typename" and name not in stored:
            raise KernelError(
                f"{signature.name}: the dtype of an array tells what `typename {name}` is; "
                f"expected a parameter `const {name}*` or `{name}*`. Received: {_shown(signature)}"
            )
        if kind != "typename" and name != "BLOCK" and name not in attributes:
            raise KernelError(
                f"{signature.name}: template parameter `{kind} {name}` must be BLOCK, the threads "
                f"of a block, or an attribute. {received(attributes=list(attributes))}"
            )


def plain_value(kernel: str, name: str, value: Any) -> Any:
    """Returns an attribute, which must be a plain, hashable value.

    Raises:
        ArgumentError: If it is an array or a tensor.
    """
    if isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, (bool, int, float, str, tuple, type(None), np.generic)):
        raise ArgumentError(
            f"{kernel}: attribute `{name}` must be a number, string or tuple; arrays are passed as "
            f"positional arguments of the function. {received(type=type(value).__name__)}"
        )
    return value
