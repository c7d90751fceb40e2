"""How a row of the case tables is written: recipes for inputs, and attributes."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Makes one input; floats are made in float64 and cast by the checks."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(*shape: int) -> Recipe:
    """Standard normal draws."""
    return Recipe("normal", shape, lambda rng, s: rng.standard_normal(s))


def uniform(low: float, high: float, *shape: int) -> Recipe:
    """Uniform draws from [low, high)."""
    return Recipe(f"uniform[{low},{high}]", shape, lambda rng, s: rng.uniform(low, high, s))


def integers(low: int, high: int, *shape: int, dtype: str = "int32") -> Recipe:
    """Integer draws from [low, high)."""
    return Recipe(f"{dtype}", shape, lambda rng, s: rng.integers(low, high, s).astype(dtype))


def bools(*shape: int) -> Recipe:
    """Fair coins."""
    return Recipe("bool", shape, lambda rng, s: rng.random(s) < 0.5)


def distinct(*shape: int) -> Recipe:
    """A shuffled grid: no two elements are closer than 0.1, for ops with ties or kinks."""

    def make(rng, s):
        n = int(np.prod(s))
        return (rng.permutation(n).reshape(s) - n / 2 + 0.37) * 0.1

    return Recipe("distinct", shape, make)


def array(values: Any, dtype: str = "float64") -> Recipe:
    """These values."""
    fixed = np.array(values, dtype)
    return Recipe("array", fixed.shape, lambda rng, s: fixed.copy())


@dataclass(frozen=True)
class Case:
    """One row: inputs, attributes, and how to check them."""

    recipes: tuple[Recipe, ...]
    attributes: dict[str, Any]
    grad: bool = True
    tol: float = 1.0
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16")
    strided: bool = field(default=True)

    def inputs(self, dtype: str = "float64") -> list[np.ndarray]:
        """The inputs; float ones are rounded to `dtype`, and given back in it."""
        from gpunet.dtypes import numpy_dtype

        rng = np.random.default_rng(zlib.crc32(repr(self).encode()))
        made = [recipe.make(rng, recipe.shape) for recipe in self.recipes]
        return [np.asarray(x, numpy_dtype(dtype)) if x.dtype.kind == "f" else x for x in made]

    def __repr__(self) -> str:
        shown = [f"{r.name}{list(r.shape)}".replace(" ", "") for r in self.recipes]
        shown += [f"{k}={v!r}".replace(" ", "") for k, v in self.attributes.items()]
        return ",".join(shown)


def case(*recipes: Recipe, **settings: Any) -> Case:
    """A row: inputs by position, attributes by keyword, settings of the check with `_` before.

    Settings: `_grad=False` checks no gradient, `_tol=10` multiplies the tolerances, `_dtypes=(...)`
    names the dtypes compared with float64, `_strided=False` checks no strided inputs.
    """
    ours = {k[1:]: v for k, v in settings.items() if k.startswith("_")}
    return Case(recipes, {k: v for k, v in settings.items() if not k.startswith("_")}, **ours)
