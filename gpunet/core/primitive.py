"""Primitive: the one declaration of an op, and the one door that eager, tape and trace go through.

An op is a signature with rules attached::

    softmax = Primitive("softmax(x, *, axis) -> y")


    @softmax.array  # NumPy and CuPy alike
    def _(xp, x, axis): ...
    @softmax.infer  # shape and dtype only
    def _(x, axis):
        return Symbol(x.shape, x.dtype)


    @softmax.vjp  # its parameter names are what the tape keeps
    def _(g, y, axis):
        return y * (g - reduce_sum(g * y, axis=axis, keepdims=True))

Inputs are positional, attributes are keywords. A last input `*xs` takes any number of tensors.
"""

import functools
import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from gpunet.backend.device import Device
from gpunet.backend.faults import on_device
from gpunet.core.state import mode, state
from gpunet.core.tensor import Tensor
from gpunet.errors import DeviceError, DTypeError, GpunetError, ShapeError

REGISTRY: dict[str, "Primitive"] = {}
_RULES = {
    "cpu": ("cpu", "array", "composite"),
    "cuda": ("cuda", "array", "composite"),
    "emulator": ("cuda", "array", "composite"),
}


class Primitive:
    """All that gpunet knows of one op, said once.

    Args:
        signature: `"name(inputs, *, attributes) -> outputs"`.
        registry: Where it is found by its name; gpunet's own ops are in `REGISTRY`.

    Attributes:
        name: Name in the registry.
        inputs: Names of the tensor inputs; a variadic one is the last.
        attributes: Names of the keyword attributes.
        outputs: Names of the results.
        rules: The rules given so far, by name.
    """

    def __init__(self, signature: str, registry: MutableMapping[str, "Primitive"] = REGISTRY):
        match = re.fullmatch(r"(\w+)\((.*)\) -> (.+)", signature)
        if not match or match[1] in registry:
            raise ValueError(f"Not a new primitive signature: {signature!r}")
        before, _, after = match[2].partition("*")
        variadic, _, rest = after.partition(",")
        self.name = match[1]
        self.inputs = re.findall(r"\w+", before) + re.findall(r"\w+", variadic)
        self.variadic = bool(variadic.strip())
        self.attributes = re.findall(r"\w+", rest)
        self.outputs = re.findall(r"\w+", match[3])
        self.rules: dict[str, Callable] = {}
        self.keeps: list[tuple[str, int]] = []
        self.differentiable = False
        self._run: dict[Device, Callable] = {}
        registry[self.name] = self

    def __repr__(self) -> str:
        return f"<Primitive {self.name}>"

    # -- the rules ------------------------------------------------------------------------------

    def composite(self, f: Callable) -> Callable:
        """The meaning in smaller ops, on tensors: the default of every other rule."""
        if not self.differentiable:  # its gradient needs all inputs; a vjp says what it needs
            self.keeps = [self._keep(name) for name in self.inputs]
        return self._rule("composite", f)

    def array(self, f: Callable) -> Callable:
        """Array code `f(xp, *arrays, **attributes)` for NumPy and CuPy alike."""
        return self._rule("array", f)

    def cpu(self, f: Callable) -> Callable:
        """A faster NumPy form, `f(*arrays, **attributes)`."""
        return self._rule("cpu", f)

    def cuda(self, f: Callable) -> Callable:
        """Launches CUDA kernels, `f(*arrays, **attributes)`; the emulator runs it too."""
        return self._rule("cuda", f)

    def native(self, f: Callable) -> Callable:
        """Plans a C++ kernel for graphs on the CPU: `f(inputs, outputs, **attributes)`.

        Inputs and outputs are lists of `backend.native.Operand`. Returns a `Launch`, or `None`
        where the array rule should do it.
        """
        return self._rule("native", f)

    def infer(self, f: Callable) -> Callable:
        """Results as Symbols from inputs as Symbols: shapes and dtypes only."""
        return self._rule("infer", f)

    def cost(self, f: Callable) -> Callable:
        """Bytes moved and floating-point operations, `f(*symbols, **attributes)`."""
        return self._rule("cost", f)

    def vjp(self, f: Callable, names: Sequence[str] | None = None) -> Callable:
        """Cotangents of the inputs, written in ops: `f(g, *kept, **attributes)`.

        The positional parameters after `g` say what the tape keeps: an input or output by name,
        `x_shape` or `x_dtype` of an input, or `needs`: which inputs want a cotangent. With several
        outputs `g` is a tuple. Returns one cotangent, or a tuple with one for each input. `names`
        stands in for the names of the parameters.
        """
        code = f.__code__
        names = code.co_varnames[1 : code.co_argcount] if names is None else names
        self.keeps = [self._keep(n) for n in names if n not in self.attributes]
        return self._rule("vjp", f)

    def _rule(self, kind, f):
        self.rules[kind] = f
        self._run.clear()
        if kind in ("composite", "vjp"):
            self.differentiable = True
        return f

    def _keep(self, name):
        if name == "needs":
            return name, 0
        base, kind = name, "value"
        for suffix in ("shape", "dtype"):
            if name not in self.inputs + self.outputs and name.endswith("_" + suffix):
                base, kind = name.removesuffix("_" + suffix), suffix
        if base in self.inputs:
            index = self.inputs.index(base)
            last = self.variadic and index == len(self.inputs) - 1
            return (kind + "s" if last else kind), index
        if kind == "value" and base in self.outputs:
            return "output", self.outputs.index(base)
        raise ValueError(f"The vjp of {self.name} names {name!r}, which is no input or output.")

    # -- the door -------------------------------------------------------------------------------

    def __call__(self, *inputs: Tensor, **attributes: Any) -> Any:
        """Applies the op to tensors of one device: computes, or records it in the graph traced.

        Returns:
            A Tensor, or a tuple of Tensors where the signature names several outputs.

        Raises:
            DeviceError: If the inputs are on different devices.
            ShapeError: If shapes do not go together.
        """
        device = inputs[0].device
        try:
            if state.graph is not None:
                out = state.graph.record(self, inputs, attributes)
            else:
                run = self._run.get(device) or self._bind(device)
                out = run(*[x.data for x in inputs], **attributes)
        except (ValueError, TypeError, IndexError) as error:
            raise self._explain(error, inputs, attributes) from error
        if type(out) is tuple:
            outs = tuple([Tensor(data, device) for data in out])
        else:
            outs = Tensor(out, device)
        tape, recorded = state.tape, False
        for x in inputs:
            if x.device is not device:
                raise self._mixed(inputs)
            if tape is not None and x.node is not None and x.node.tape is tape:
                recorded = True
        if tape is not None and recorded:
            tape.record(self, attributes, inputs, outs)
        return outs

    def _bind(self, device):
        """Chooses the rule of a device once; a composite evaluates its smaller ops there."""
        kind = next((k for k in _RULES[device.kind] if k in self.rules), None)
        if kind is None:
            raise DeviceError(f"Op {self.name} has no rule for device {device}.")
        run = self.rules[kind]
        if kind == "array":
            run = functools.partial(run, device.xp)
        elif kind == "composite":
            run = self._evaluate(device)
        if device.kind == "cuda":
            run = on_device(run, device, self.name)
        self._run[device] = run
        return run

    def _evaluate(self, device):
        def run(*data, **attributes):
            with mode(tape=None, graph=None):
                out = self.rules["composite"](*[Tensor(d, device) for d in data], **attributes)
            return tuple([y.data for y in out]) if isinstance(out, tuple) else out.data

        return run

    def _explain(self, error, inputs, attributes):
        """Rewords an error of the array library so that it names op, shapes and attributes."""
        if isinstance(error, GpunetError):
            return error
        if any(x.device is not inputs[0].device for x in inputs):
            return self._mixed(inputs)
        shown = [f"{tuple(x.shape)} {x.dtype}" for x in inputs]
        settings = "".join(f", {k}={v!r}" for k, v in attributes.items())
        kind = DTypeError if isinstance(error, TypeError) else ShapeError
        return kind(f"{self.name}: {error}. Received: {', '.join(shown)}{settings}")

    def _mixed(self, inputs):
        devices = ", ".join(str(x.device) for x in inputs)
        return DeviceError(
            f"{self.name}: all tensors must be on one device; move them with `x.to(device)`. "
            f"Received: {devices}"
        )
