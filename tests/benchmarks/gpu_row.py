"""What a row of the GPU benchmark declares: an op, its sizes, floor, target and rivals."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Symbol
from gpunet.dtypes import numpy_dtype


@dataclass(frozen=True)
class Input:
    """How one input is drawn: the same numbers in every process on the same device."""

    kind: str
    shape: tuple[int, ...]
    dtype: str | None = None  # that of the row
    high: float = 0

    def draw(self, xp: Any, rng: Any, dtype: str) -> Any:
        """Returns it as an array of `xp`."""
        name = numpy_dtype(self.dtype or dtype)
        if self.kind == "constant":
            return xp.full(self.shape, self.high, name)
        if self.kind == "integers":
            drawn = rng.integers(0, int(self.high), self.shape)
        elif self.kind == "normal":
            drawn = rng.standard_normal(self.shape, dtype=np.float32)
        else:
            drawn = rng.random(self.shape, dtype=np.float32)
        return drawn.astype(name)


def normal(*shape: int, dtype: str | None = None) -> Input:
    """Standard normal draws."""
    return Input("normal", shape, dtype)


def uniform(*shape: int, dtype: str | None = None) -> Input:
    """Draws from [0, 1)."""
    return Input("uniform", shape, dtype)


def integers(high: int, *shape: int, dtype: str = "int64") -> Input:
    """Draws from 0, ..., high - 1."""
    return Input("integers", shape, dtype, high)


def constant(value: float, *shape: int, dtype: str | None = None) -> Input:
    """One number everywhere."""
    return Input("constant", shape, dtype, value)


@dataclass(frozen=True)
class Op:
    """A primitive with its attributes; looked up when it is called."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *tensors: Any) -> Any:
        return REGISTRY[self.name](*tensors, **self.attributes)

    def cost(self, arrays: list) -> tuple[int, int] | None:
        """Bytes and flops from the primitive's `cost` rule, if it has one."""
        rule = REGISTRY[self.name].rules.get("cost")
        if rule is None:
            return None
        return rule(*[Symbol(tuple(x.shape), x.dtype) for x in arrays], **self.attributes)


def op(name: str, **attributes: Any) -> Op:
    """The primitive of this name, with these attributes."""
    return Op(name, attributes)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What the report calls it.
        run: The op, on gpunet tensors: what `prepare` made of the inputs.
        inputs: The inputs of given sizes; where `wrt` is set, the first is the cotangent.
        sizes: The sizes measured.
        quick: Sizes for the emulator.
        dtype: Of inputs that name none.
        prepare: Makes the inputs of `run` from those drawn, on gpunet tensors; not measured.
        reference: What `run` means, on gpunet tensors, where it is no op of its own.
        floor: Bytes that must be moved, from the arrays read and written; default each once, or
            what the primitive's `cost` rule says.
        target: Share to reach of what `of` names; `None` where the project set none.
        of: `"copy"`, `"read"` or `"write"` bandwidth, or a rival whose time is divided by ours.
        torch: The same on PyTorch tensors, `f(torch, *inputs)`; its result is compared with ours.
        jax: The same for JAX, `f(jax, *inputs)`.
        wrt: Inputs after the cotangent for which the gradient of `torch` and `jax` is taken.
        compiled: Whether `torch.compile` takes part.
        rivals: More PyTorch forms by name, compared and timed like `torch`.
        pack: Brings the rival's inputs into the layout it likes best, `f(torch, *inputs)`; not
            measured.
        tolerance: Multiplies the errors allowed.
        compared: How many of the results the rivals have too; none for random numbers.
        in_place: Whether rivals write into their inputs, and get copies.
    """

    name: str
    run: Callable
    inputs: Callable[..., list[Input]]
    sizes: dict[str, int]
    quick: dict[str, int]
    dtype: str = "bfloat16"
    prepare: Callable | None = None
    reference: Callable | None = None
    floor: Callable[[list, list], int] | None = None
    target: float | None = None
    of: str = "copy"
    torch: Callable | None = None
    jax: Callable | None = None
    wrt: tuple[int, ...] = ()
    compiled: bool = True
    rivals: dict[str, Callable] = field(default_factory=dict)
    pack: Callable | None = None
    tolerance: float = 1.0
    compared: int | None = None
    in_place: bool = False

    def size_text(self, quick: bool) -> str:
        return " ".join(f"{k}={v}" for k, v in (self.quick if quick else self.sizes).items())

    def draw(self, xp: Any, quick: bool, seed: int = 0) -> list:
        """The inputs, as arrays of `xp`."""
        rng = xp.random.default_rng(seed)
        sizes = self.quick if quick else self.sizes
        return [one.draw(xp, rng, self.dtype) for one in self.inputs(**sizes)]

    def cost(self, arrays: list, outputs: list) -> tuple[int, int | None]:
        """The fewest bytes that must be moved, and the flops where the primitive says."""
        rule = self.run.cost(arrays) if isinstance(self.run, Op) else None
        if self.floor is not None:
            return self.floor(arrays, outputs), rule and rule[1]
        if rule is not None:
            return rule
        return sum(x.size * x.dtype.itemsize for x in (*arrays, *outputs)), None


def moved(*arrays: Any) -> int:
    """Bytes of arrays, for a `floor`."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape, dtype and place of a tensor."""
    return Tensor(x.device.xp.zeros_like(x.data), x.device)
