"""Kernels of fused chains for CUDA devices: the text, and how it is launched.

The text calls the functors of `cuda_kernels/scalar.cuh` on the elements that `pointwise.cuh` loads,
and stores each result once. It depends on the chain and the dtypes only; shapes, broadcasting and
alignment are arguments of the kernel.
"""

from typing import Any

import numpy as np

from gpunet.backend.kernels import Kernel, cuda_type, empty
from gpunet.compile.chain import Chain, functor, literal, named, value_dtypes
from gpunet.ops.copy_launch import BLOCK, grid_of_rows
from gpunet.ops.elementwise_launch import arrange, number, vectors_in

# These never merge with a neighbouring step; see `fused.cuh`.
_EXACT = named("Add Subtract Multiply Square")
# These do not end in a product that the next step could take into a fused multiply-add.
_CLOSED = named(
    "Absolute Ceil Celu Clip Equal Floor FloorDivide Fmax Fmin Fmod Greater GreaterEqual "
    "Heaviside Identity Isfinite Isinf Isnan LeakyRelu Less LessEqual LogicalAnd LogicalNot "
    "LogicalOr LogicalXor Maximum Minimum Mod Negative Nextafter Nonzero NotEqual Reciprocal Relu "
    "Relu6 ReluGrad Rsqrt Sigmoid Sign Signbit Sqrt TrueDivide Trunc Where"
)


def computed_on_host(chain: Chain, hosted: tuple[bool, ...]) -> bool:
    """Tells whether a step has operands on the host only.

    Ops compute numbers that are not on the device by NumPy; then each step is done by its own rule.

    Args:
        chain: The chain.
        hosted: For each input, whether it is a NumPy scalar.
    """
    values = list(hosted)
    for step in chain.steps:
        values.append(all(values[i] for i in step.operands))
    return any(values[chain.arity :])


class Launcher:
    """Launches the kernel of a chain for inputs of some dtypes, where its arrays are.

    Args:
        name: What errors call it.
        chain: The chain.
        dtypes: Of the inputs.
    """

    def __init__(self, name: str, chain: Chain, dtypes: tuple[np.dtype, ...]):
        values = value_dtypes(chain, dtypes)
        self.source = source(chain, dtypes)
        self._inputs, self._outputs = dtypes, [values[i] for i in chain.results]
        self._kernel = Kernel(self.source, "fused", (BLOCK,), file=f"{name}.cu")

    def __call__(self, xs: tuple[Any, ...], shape: tuple[int, ...]) -> list[Any]:
        """Computes the results, of this shape, from arrays and NumPy scalars."""
        like = next(x for x in xs if not isinstance(x, np.generic))
        ys = [empty(shape, dtype, like=like) for dtype in self._outputs]
        rows, operands = arrange(shape, *xs)
        vectors, groups = vectors_in(rows, operands, *ys)
        arguments: list[Any] = []
        for x, dtype, strides in zip(operands, self._inputs, rows.strides, strict=True):
            arguments += [*number(x, dtype), *strides[:3], strides[3] == 1]
        grid, block = grid_of_rows(rows.rows, groups)
        self._kernel(grid=grid, block=block, args=(*arguments, *ys, *rows[:4], vectors))
        return ys


def source(chain: Chain, dtypes: tuple[np.dtype, ...]) -> str:
    """Returns the CUDA C++ of a chain's kernel `fused<BLOCK>`."""
    values = value_dtypes(chain, dtypes)
    types = [cuda_type(dtype) for dtype in values]
    results = list(enumerate(chain.results))
    stored = [*dtypes, *[values[i] for i in chain.results]]
    parameters = [
        f"const {types[i]}* __restrict__ x{i}, Acc<{types[i]}> number{i}, "
        f"long long s{i}_0, long long s{i}_1, long long s{i}_2, bool s{i}_3"
        for i in range(chain.arity)
    ]
    parameters += [f"{types[i]}* __restrict__ y{j}" for j, i in results]
    parameters += ["long long rows, long long columns, long long n1, long long n2, bool vectors"]
    loads = [
        f"Acc<{types[i]}> in{i}[N];\n    load_group<N>(in{i}, x{i}, "
        f"row_start(r, n1, n2, s{i}_0, s{i}_1, s{i}_2), s{i}_3, number{i}, c, left, whole);"
        for i in range(chain.arity)
    ]
    loads += [f"Vec<{types[i]}, N> out{j};" for j, i in results]
    body = [f"const auto v{i} = in{i}[k];" for i in range(chain.arity)]
    body += _steps(chain, values, types)
    body += [f"out{j}[k] = from_float<{types[i]}>(v{i});" for j, i in results]
    stores = [f"store_group<N>(y{j} + r * columns + c, out{j}, left, whole);" for j, _ in results]
    return _TEXT.format(
        parameters=",\n           ".join(parameters),
        width=16 // max(dtype.itemsize for dtype in stored),
        loads="\n    ".join(loads),
        body="\n      ".join(body),
        stores="\n    ".join(stores),
    )


_TEXT = """#include "fused.cuh"

template <int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
    fused({parameters}) {{
  constexpr int N = {width};
  for_each_group<N>(rows, columns, [&](long long r, long long c, int left) {{
    const bool whole = vectors && left == N;
    {loads}
#pragma unroll
    for (int k = 0; k < N; ++k) {{
      {body}
    }}
    {stores}
  }});
}}
"""


def _steps(chain, values, types):
    lines = []
    for at, step in enumerate(chain.steps, chain.arity):
        dtype = values[step.operands[-1]]
        found = functor(step.op.name, dict(step.attributes), dtype)
        if found is None:
            raise AssertionError(f"{step.op.name} of {dtype} has no functor")
        operands = [f"v{i}" for i in step.operands]
        operands += [literal(x, dtype) for x in found.numbers]
        exact = "exact::" if found.name in _EXACT else ""
        call = f"{exact}{found.name}()({', '.join(operands)})"
        if not exact and found.name not in _CLOSED:
            call = f"exact::sealed({call})"
        lines.append(f"const auto v{at} = rounded<{types[at]}>({call});")
    return lines
