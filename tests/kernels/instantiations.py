"""Every kernel instantiation that gpunet launches, which `test_nvrtc.py` compiles for real GPUs.

Most are found by themselves: the `cuda` rule of every primitive runs on every row of its cases, in
every dtype, with launches that are noted instead of done. What no row reaches - large shapes, other
callers than primitives - is listed in `INSTANTIATIONS`.
"""

import functools

import numpy as np
import pytest

from gpunet.backend.kernels import Kernel, name_expression

FLOATS = {"float": "float", "double": "double", "__half": "float", "__nv_bfloat16": "float"}

# (file in `cuda_kernels/`, kernel, template)
INSTANTIATIONS: list[tuple[str, str, tuple[str | int, ...]]] = [
    # Reductions of a whole tensor, too large for the rows of the case tables.
    *(
        ("reduce.cu", "reduce_chunks", (dtype, accumulate, operation, 256))
        for dtype, accumulate in FLOATS.items()
        for operation in ("Sum", "Prod", "Max", "Min")
    ),
]


@functools.cache
def instantiations() -> dict[str, list[str]]:
    """Returns the name expressions of each file, found and listed."""
    found = {(file, name_expression(kernel, template)) for file, kernel, template in INSTANTIATIONS}
    found |= launched_by_the_cases()
    files = sorted({file for file, _ in found})
    return {file: sorted(name for f, name in found if f == file) for file in files}


def launched_by_the_cases() -> set[tuple[str, str]]:
    """Runs the `cuda` rules on the rows of the case tables; returns (file, name expression)."""
    import gpunet.ops  # noqa: F401 - fills the registry
    from gpunet.core.primitive import REGISTRY
    from tests.ops.cases import CASES

    noted: set[tuple[str, str]] = set()

    def note(kernel, *, grid, block, args, shared=0):
        noted.add((kernel.file, kernel.expression))

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(Kernel, "__call__", note)
        for name in CASES.keys() & REGISTRY.keys():
            rule = REGISTRY[name].rules.get("cuda")
            for row in CASES[name] if rule else ():
                for dtype in (*row.dtypes, "float64"):
                    rule(*row.inputs(dtype), **row.attributes)
    return noted
