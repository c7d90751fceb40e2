"""The text of CUDA kernels: where it lies, and how it becomes one self-contained source."""

import functools
import re
from pathlib import Path

import numpy as np

from gpunet.errors import KernelError, received

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)".*$')
_PRAGMA_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once\b.*$")


@functools.cache
def kernel_dir() -> Path:
    """Returns the folder of the CUDA sources: inside the package, or beside it in a checkout.

    Raises:
        FileNotFoundError: If it is in neither place.
    """
    return find_folder("cuda_kernels", "common.cuh")


def find_folder(name: str, header: str) -> Path:
    """Returns a folder of sources that holds `header`, from inside the package or beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / f"_{name}", package.parent / name):
        if (folder / header).is_file():
            return folder
    raise FileNotFoundError(f"gpunet's {name} are not in or beside {package}; reinstall it.")


def assemble(source: str, name: str = "source.cu", prelude: str = "") -> str:
    r"""Pastes the headers that `source` includes from `cuda_kernels/`, each once.

    Compilers get one self-contained text, because CuPy's cache does not see an edited header.
    `#line` marks keep file names and line numbers in error messages right.

    Args:
        source: CUDA C++; `#include "x.cuh"` is replaced, `#include <x>` is left alone.
        name: What error messages call it.
        prelude: CUDA C++ that goes before it; a header that both include is pasted once.

    Raises:
        KernelError: If an included file does not exist.

    Example:
        >>> assemble("int a;", "a.cu")
        '#line 1 "a.cu"\nint a;\n'
    """
    seen: set[str] = set()
    before = _paste(prelude, "prelude", seen) if prelude else []
    return "\n".join(before + _paste(source, name, seen)) + "\n"


def _paste(source: str, name: str, seen: set[str]) -> list[str]:
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(source.splitlines(), 1):
        if match := _INCLUDE.match(line):
            if match[1] not in seen:
                seen.add(match[1])
                lines += _paste(read(match[1], f"{name}({number})"), match[1], seen)
            lines.append(f'#line {number + 1} "{name}"')
        else:
            lines.append("" if _PRAGMA_ONCE.match(line) else line)
    return lines


def read(file: str, wanted_by: str = "launch") -> str:
    """Returns the text of a file of `cuda_kernels/`; `wanted_by` goes into the error message.

    Raises:
        KernelError: If there is no such file.
    """
    path = kernel_dir() / file
    if not path.is_file():
        known = sorted(p.name for p in kernel_dir().glob("*.cu*"))
        raise KernelError(
            f"{wanted_by}: no such file in {kernel_dir()}, which has {known}. {received(file=file)}"
        )
    return path.read_text()


def name_expression(kernel: str, template: tuple[str | int, ...] = ()) -> str:
    """Returns how C++ names an instantiation.

    Args:
        kernel: A `__global__` function.
        template: Its template arguments: types and functors as text, numbers, bools.

    Raises:
        KernelError: If an argument is none of these.

    Example:
        >>> name_expression("softmax", ("float", 256, True))
        'softmax<float, 256, true>'
    """
    for argument in template:
        if not isinstance(argument, str | int | np.integer):
            raise KernelError(
                f"The template arguments of `{kernel}` must be text, int or bool; write dtypes as "
                f"`cuda_type(dtype)`. {received(template=template)}"
            )
    words = [str(a).lower() if isinstance(a, bool) else str(a) for a in template]
    return f"{kernel}<{', '.join(words)}>" if words else kernel
