"""Every kernel instantiation that gpunet launches, which `test_nvrtc.py` compiles for real GPUs.

Most are found by themselves: the `cuda` rule of every primitive runs on every row of its cases, in
every dtype, with launches that are noted instead of done. What no row reaches - large shapes, other
callers than primitives - is listed in `INSTANTIATIONS`.
"""

import functools

import numpy as np
import pytest

from gpunet.backend.kernels import Kernel, name_expression

HALVES = ("__half", "__nv_bfloat16")
FLOATS = {"float": "float", "double": "double", "__half": "float", "__nv_bfloat16": "float"}

CONVOLUTIONS = [
    ("float", "Fma<128>", 4),
    *(("float", f"TensorCoreTf32<{tile}>", 4) for tile in ("64, 64", "128, 128")),
    *(
        (half, f"TensorCore<{tile}>", 8)
        for half in ("__half", "__nv_bfloat16")
        for tile in ("128, 64", "128, 128")
    ),
]

# (file in `cuda_kernels/`, kernel, template)
INSTANTIATIONS: list[tuple[str, str, tuple[str | int, ...]]] = [
    # Views made contiguous: words that no row's dtype, alignment or shape leads to.
    *(
        (file, kernel, (word, 256))
        for file, kernel, words in (
            *(
                ("copy.cu", kernel, ("unsigned char", "unsigned short", "unsigned int"))
                for kernel in ("copy_rows", "pad_rows")
            ),
            *(
                ("copy.cu", kernel, ("unsigned long long", "uint4"))
                for kernel in ("copy_rows", "pad_rows")
            ),
            ("transpose.cu", "transpose", ("unsigned char", "unsigned short", "unsigned int")),
            ("transpose.cu", "transpose", ("unsigned long long",)),
        )
        for word in words
    ),
    # Convolutions with large tiles, and with float32 rounded to TF32.
    *(
        ("conv.cu", kernel, (dtype, arithmetic, width, *which))
        for dtype, arithmetic, width in CONVOLUTIONS
        for kernel, *which in (
            ("conv_gather", False),
            ("conv_gather", True),
            ("conv_kernel_grad",),
        )
    ),
    # Rows too long for the rows of the case tables; logits that do not begin at 16 bytes.
    ("softmax.cu", "softmax_forward_wide", ("__half", 8, 1024)),
    *(("softmax.cu", "softmax_backward_wide", (half, 8, 1024)) for half in HALVES),
    *(
        ("cross_entropy.cu", f"softmax_cross_entropy_{way}", (dtype, "long long", width, 512, 512))
        for way in ("forward", "backward", "with_gradient")
        for dtype, width in (("float", 4), ("__half", 8), ("__nv_bfloat16", 8))
    ),
    *(
        ("cross_entropy.cu", "sigmoid_cross_entropy_forward", (d, 1, 256))
        for d in ("float", *HALVES)
    ),
    # What only an argument asks for.
    *(("scatter.cu", "add_rows_atomic", (dtype, 256)) for dtype in FLOATS),
    # More than 16384 indices.
    ("scatter.cu", "scan_counts", (1024,)),
    # Parts of arenas that do not begin at multiples of 16 bytes.
    *(
        ("update.cu", "update", (dtype, rule, 256, 1))
        for dtype in FLOATS
        for rule in ("Sgd", "Momentum", "Nesterov", "Rmsprop", "Adam", "Lion")
    ),
    # The backward pass of attention that is not chosen by default.
    *(("attention.cu", "attention_backward_atomic", (width,)) for width in (32, 64, 128)),
    *(
        ("attention_tensor_core.cu", "attention_backward_atomic", half)
        for half in (("__half", 64), ("__half", 128), ("__nv_bfloat16", 32), ("__nv_bfloat16", 128))
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
    """Returns (file, name expression) of all that the rows of the case tables launch."""
    return set().union(*launches().values())


@functools.cache
def launches() -> dict[str, list[tuple[str, str]]]:
    """Runs the `cuda` rules on the rows; returns (file, name expression) for each primitive."""
    import gpunet.ops  # noqa: F401 - fills the registry
    from gpunet.core.primitive import REGISTRY
    from tests.ops.cases import CASES

    noted: dict[str, list[tuple[str, str]]] = {}
    name = ""

    def note(kernel, *, grid, block, args, shared=0):
        noted.setdefault(name, []).append((kernel.file, kernel.expression))

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(Kernel, "__call__", note)
        for name in sorted(CASES.keys() & REGISTRY.keys()):
            rules = REGISTRY[name].rules
            for row in CASES[name] if "cuda" in rules else ():
                for dtype in (*row.dtypes, "float64"):
                    rules["cuda"](*row.inputs(dtype), **row.attributes)
    return noted
