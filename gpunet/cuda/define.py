"""The three doors: `kernel` for CUDA C++, `elementwise` for an expression, `extern` for others."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpunet.backend.sources import kernel_dir
from gpunet.cuda.custom import CustomKernel
from gpunet.cuda.launch import CudaLauncher, ExternLauncher
from gpunet.errors import ArgumentError, KernelError, received

_DECLARED = re.compile(r"\s*(\w[\w ]*?)\s+(\w+)\s*")


def kernel(
    source: str | Path,
    *,
    entry: str | None = None,
    threads: Any = None,
    block: int | tuple[int, ...] = 256,
    shared: Any = 0,
    contiguous: bool = True,
    init: float | None = None,
) -> Callable[[Callable], CustomKernel]:
    """Decorates a Python function with the CUDA kernel that computes the same.

    The function is written in `gpunet.ops` and does four jobs: it is the reference that `check`
    compares with, it runs on the CPU, it tells the shapes and dtypes of the results, and its
    derivative is the gradient, unless `gradient` or `gradient_kernel` gives a better one.

    Arguments go to the kernel's parameters by name. `const T* x` is the input `x`; a pointer that
    is not const is a result, in the order of the kernel; a scalar is an attribute (an argument that
    is keyword-only or has a default), or `n`, the elements of the first result, or `x_size`,
    `x_ndim`, `x_dim0`, `x_stride0` of an array `x`. A `typename T` is what the arrays store; a
    template parameter `BLOCK` is the number of threads of a block, others are attributes. What
    matches nothing is an error here, also on machines without a GPU and a compiler.

    The source may use what `cuda_kernels/common.cuh` declares, and
    `GPUNET_LOOP(i, n)`, a loop over 0, ..., n - 1 shared among all threads.

    Args:
        source: CUDA C++ text, or the path of a `.cu` file: from here, from the function's file, or
            one of gpunet's own in `cuda_kernels/`.
        entry: Name of the `__global__` function, if there are several.
        threads: How many threads the grid has at least: an int, a tuple of up to three, or a
            function of arguments by name, such as `lambda x: x.shape[0] * 256`. Default: the size
            of the first result.
        block: Threads of a block, at most 1024: an int, or a tuple of up to three.
        shared: Bytes of dynamic shared memory, or a function like `threads`.
        contiguous: Whether inputs are made C-contiguous first. If not, the kernel gets the address
            of the first element and asks for `x_stride0`, ...
        init: What the results are filled with first; by default they are not.

    Returns:
        A decorator that returns a `CustomKernel`.

    Raises:
        KernelError: If parameters and arguments do not match, or the source holds no kernel.

    Example:
        >>> import gpunet
        >>> @gpunet.cuda.kernel(r'''
        ... template <typename T>
        ... __global__ void swish(const T* x, T* y, float beta, long long n) {
        ...   GPUNET_LOOP(i, n) {
        ...     const auto v = to_float(x[i]);
        ...     y[i] = from_float<T>(v / (1 + exp(-beta * v)));
        ...   }
        ... }''')
        ... def swish(x, *, beta=1.0):
        ...     return x / (1 + gpunet.ops.exp(-beta * x))
        >>> swish(gpunet.tensor([0.0, 4.0]), beta=0.5).numpy().round(2)
        array([0.  , 3.52], dtype=float32)
        >>> gpunet.grad(lambda x: swish(x).sum())(gpunet.tensor(0.0)).item()
        0.5
    """

    def decorate(function: Callable) -> CustomKernel:
        inputs, attributes = _arguments(function)
        launch = {"entry": entry, "threads": threads, "block": block, "shared": shared}
        launch |= {"contiguous": contiguous, "init": init}
        name = _name(function, entry)
        launcher = make_launcher(source, name, function, launch)
        if name == "kernel" and isinstance(launcher, CudaLauncher):
            name = launcher.name
        return CustomKernel(name, function, inputs, attributes, launcher)

    return decorate


def elementwise(
    inputs: str,
    outputs: str,
    expression: str,
    reference: Callable | None = None,
    *,
    name: str | None = None,
    block: int = 256,
) -> Any:
    """Makes a kernel that computes every element of its results by an expression in C++.

    16-bit floats are computed in float32. Inputs of other shapes are repeated as in NumPy.

    Args:
        inputs: Declarations, such as `"T x, T w, float beta"`. Which of them are tensors and which
            are plain values is told by the reference.
        outputs: Declarations of the results, such as `"T y"`.
        expression: C++ statements that assign to the results.
        reference: The Python function, as for `kernel`; without it a decorator is returned.
        name: Default: the name of the reference.
        block: Threads of a block.

    Returns:
        A `CustomKernel`.

    Raises:
        KernelError: If declarations and arguments do not match.

    Example:
        >>> import gpunet
        >>> swish = gpunet.cuda.elementwise(
        ...     "T x, float beta",
        ...     "T y",
        ...     "y = x / (1 + exp(-beta * x))",
        ...     lambda x, *, beta=1.0: x / (1 + gpunet.ops.exp(-beta * x)),
        ... )
        >>> swish([0.0, 4.0], beta=0.5).shape
        (2,)
    """

    def decorate(function: Callable) -> CustomKernel:
        tensors, attributes = _arguments(function)
        called = name or _name(function, "elementwise")
        source = _elementwise_source(called, inputs, outputs, expression, tensors)
        launch = {"entry": called, "threads": None, "block": block, "shared": 0}
        launch |= {"contiguous": True, "init": None}
        launcher = CudaLauncher(source, "generated.cu", **launch)
        launcher.broadcast = True
        return CustomKernel(called, function, tensors, attributes, launcher)

    return decorate if reference is None else decorate(reference)


def extern(
    function: Callable,
    *,
    convert: Callable | None = None,
    devices: tuple[str, ...] = ("cuda",),
    init: float | None = None,
) -> Callable[[Callable], CustomKernel]:
    """Decorates a Python function with a callable that launches a kernel by itself.

    For kernels of Triton, Numba, Warp and others that take CUDA arrays: the callable gets the
    inputs, the results to write, and the attributes, each by the name of its parameter, beside `n`,
    the elements of the first result. If it names no result, it returns them instead. The arrays are
    CuPy's, which speak DLPack and the CUDA array interface; the work must go to the current stream
    of CuPy, by default the same null stream as that of other libraries.

    Args:
        function: The callable, such as `lambda x, y, n: my_numba_kernel[64, 256](x, y, n)`.
        convert: Applied to every array first, such as `torch.from_dlpack`.
        devices: Kinds of devices that it runs on: `"cuda"`, and `"emulator"` for those that also
            take NumPy arrays, such as Numba's simulator. On others the reference runs.
        init: What the results are filled with first.

    Returns:
        A decorator that returns a `CustomKernel`, as `kernel` does.

    Raises:
        KernelError: If parameters and arguments do not match.

    Example:
        >>> import gpunet
        >>> import numpy as np
        >>> def fill_with_double(x, y):  # stands for a launch of Triton's, Numba's, ...
        ...     np.multiply(x, 2, out=y)
        >>> @gpunet.cuda.extern(fill_with_double, devices=("emulator",))
        ... def double(x):
        ...     return 2 * x
        >>> double(gpunet.tensor([1.0, 2.0], device="cpu").to("emulator")).tolist()
        [2.0, 4.0]
    """

    def decorate(reference: Callable) -> CustomKernel:
        inputs, attributes = _arguments(reference)
        name = _name(reference, "extern")
        launcher = ExternLauncher(function, name, tuple(devices), convert, init)
        return CustomKernel(name, reference, inputs, attributes, launcher)

    return decorate


def make_launcher(source: Any, name: str, function: Callable | None, launch: dict) -> Any:
    """Returns what launches a source, a `.cu` file or a callable.

    Args:
        source: One of these.
        name: What errors call it.
        function: The Python function, beside whose file a `.cu` file may lie.
        launch: Arguments of `CudaLauncher`, and `convert` and `devices` for callables.

    Raises:
        KernelError: If there is no such file.
    """
    convert, devices = launch.pop("convert", None), launch.pop("devices", ("cuda",))
    if callable(source):
        return ExternLauncher(source, name, tuple(devices), convert, launch["init"])
    if isinstance(source, str) and "__global__" in source:
        return CudaLauncher(source, f"{name}.cu", **launch)
    if not isinstance(source, (str, Path)) or "\n" in str(source):
        raise KernelError(
            f"{name}: `source` must be CUDA C++ with a `__global__` function, or the path of a "
            f".cu file. {received(source=source)}"
        )
    path = _find(Path(source), function)
    return CudaLauncher(path.read_text(encoding="utf-8"), path.name, **launch)


def _find(path, function):
    home = inspect.getsourcefile(function) if function is not None else None
    for folder in (Path(), *([Path(home).parent] if home else []), kernel_dir()):
        if (folder / path).is_file():
            return folder / path
    raise KernelError(f"No such .cu file. {received(path=str(path), folder=str(Path.cwd()))}")


def _name(function, default):
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() and name != "_" else default or "kernel"


def _arguments(function):
    """Returns the names of the tensors, and the plain values with their defaults."""
    inputs, attributes = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ArgumentError(
                f"The function of a kernel names each of its arguments. {received(argument=name)}"
            )
        if parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty:
            attributes[name] = parameter.default
        else:
            inputs.append(name)
    return inputs, attributes


def _elementwise_source(name, inputs, outputs, expression, tensors):
    """Returns a kernel that loads, calls the expression, and stores."""
    read, written = _declared(name, inputs), _declared(name, outputs)
    arrays = [(kind, x) for kind, x in read if x in tensors]
    values = [(kind, x) for kind, x in read if x not in tensors]
    typenames = sorted({kind for kind, _ in [*arrays, *written] if re.fullmatch(r"[A-Z]\w*", kind)})
    template = f"template <{', '.join(f'typename {t}' for t in typenames)}>\n" if typenames else ""
    own = f"<{', '.join(typenames)}>" if typenames else ""
    taken = [f"const Acc<{kind}> {x}" for kind, x in arrays]
    taken += [f"const {kind} {x}" for kind, x in values]
    taken += [f"Acc<{kind}>& {y}" for kind, y in written]
    parameters = [f"const {kind}* __restrict__ {x}" for kind, x in arrays]
    parameters += [f"{kind}* __restrict__ {y}" for kind, y in written]
    parameters += [f"{kind} {x}" for kind, x in values] + ["long long n"]
    parameters += [f"long long {x}_size" for _, x in arrays]
    loads = [f"to_float({x}[{x}_size == n ? i : i % {x}_size])" for _, x in arrays]
    loads += [x for _, x in values]
    loads += [f"gpunet_{y}" for _, y in written]
    results = "".join(f"    Acc<{kind}> gpunet_{y};\n" for kind, y in written)
    stores = "".join(f"    {y}[i] = from_float<{kind}>(gpunet_{y});\n" for kind, y in written)
    return (
        f"{template}__device__ __forceinline__ void gpunet_{name}({', '.join(taken)}) {{\n"
        f'#line 1 "{name}.cu"\n{expression};\n}}\n#line 6 "generated.cu"\n'
        f"{template}__global__ void {name}({', '.join(parameters)}) {{\n"
        f"  GPUNET_LOOP(i, n) {{\n{results}"
        f"    gpunet_{name}{own}({', '.join(loads)});\n{stores}  }}\n}}\n"
    )


def _declared(name, text):
    """Returns (type, name) of each declaration in `"T x, float beta"`."""
    found = []
    for part in text.split(","):
        match = _DECLARED.fullmatch(part)
        if not match:
            raise KernelError(
                f"{name}: expected declarations such as `T x, float beta`. {received(text=text)}"
            )
        found.append((match[1], match[2]))
    return found
