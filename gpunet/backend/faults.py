"""When CUDA fails: which kernel it was, whether the process can go on, and what holds the memory.

A kernel runs after its launch returned, so its error comes up later, in whatever waits for the GPU
first. The last launches are remembered, to be named then.
"""

import collections
import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gpunet.backend.device import Device
from gpunet.errors import DeviceMemoryError, KernelError

# After these the CUDA context is lost: bad addresses, failed asserts, timeouts, memory errors.
_STICKY = {214, 700, 702, 709, 710, *range(714, 721)}
_REMEMBERED = 8
_recent: collections.deque = collections.deque(maxlen=_REMEMBERED)

# Classes whose objects keep arrays: what to call them, and the arrays. `core` fills it in.
HOLDERS: dict[type, Callable[[Any], tuple[str, Iterable]]] = {}
PARAMETERS, STATE, KEPT, TENSORS = (
    "parameters",
    "state",
    "activations kept for the backward pass",
    "tensors",
)
_GRADIENTS = "gradients (tensors of a parameter's shape)"


def cuda_errors() -> tuple[type[Exception], ...]:
    """Returns the errors that CuPy raises where CUDA itself reports one."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return ()
    return cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError


def note(name: str, grid: tuple, block: tuple, shared: int, args: tuple) -> None:
    """Remembers a launch: shapes, not arrays, which would keep their memory."""
    shapes = tuple([getattr(value, "shape", None) or value for value in args])
    _recent.append((name, grid, block, shared, shapes))


def failed(what: str, error: Exception, args: Iterable = ()) -> KernelError:
    """Returns the error for a CUDA error that came up in `what`.

    Args:
        what: The op or kernel.
        error: CuPy's error.
        args: Arrays and numbers it was called with.
    """
    shown = ", ".join(map(_show, args))
    lines = [f"{what}: {error}" + (f". Received: {shown}" if shown else "")]
    if getattr(error, "status", None) not in _STICKY:
        return KernelError(f"{lines[0]}. The process can go on using the GPU.")
    lines += [
        "The CUDA context of this process is lost: save what is on the CPU and start it again. The "
        "kernel at fault may be an earlier one. Newest first, the last launches were:",
        *(f"  {_launch(launch)}" for launch in reversed(_recent)),
        "To find it, set CUDA_LAUNCH_BLOCKING=1, or run the same ops on the device "
        '"emulator" with `gpunet.testing.sanitize`.',
    ]
    return KernelError("\n".join(lines))


def _show(value):
    if getattr(value, "shape", ()):
        return f"{tuple(value.shape)} {value.dtype}"
    return str(value)


def _launch(launch):
    name, grid, block, shared, shapes = launch
    return f"`{name}` grid={grid} block={block} shared={shared} args={', '.join(map(str, shapes))}"


# ---- running on a CUDA device -------------------------------------------------------------------


def on_device(run: Callable, device: Device, name: str) -> Callable:
    """Returns `run` with its CUDA device current, and with errors that name it.

    Out of memory: the pool's free blocks are given back to CUDA and `run` is tried once more.

    Args:
        run: Takes arrays and settings; must be free of side effects, as the rules of ops are.
        device: A CUDA device.
        name: What error messages call it.

    Raises:
        DeviceMemoryError: If the memory is not enough in the second try.
        KernelError: If CUDA reports an error.
    """
    runtime, out_of_memory = device.xp.cuda.runtime, device.xp.cuda.memory.OutOfMemoryError
    errors = cuda_errors()

    def attempt(data, settings):
        if runtime.getDevice() == device.index:
            return run(*data, **settings)
        with device.activate():
            return run(*data, **settings)

    def run_there(*data, **settings):
        try:
            return attempt(data, settings)
        except out_of_memory:
            pass  # and with it go the frames that hold its intermediate arrays
        except errors as error:
            raise failed(name, error, data) from error
        with device.activate():
            gc.collect()
            device.xp.get_default_memory_pool().free_all_blocks()
        try:
            return attempt(data, settings)
        except out_of_memory as error:
            raise DeviceMemoryError(_account(name, error, data, device)) from error

    return run_there


def _account(name, error, data, device):
    """Tells what holds the memory of a device."""
    with device.activate():
        pool = device.xp.get_default_memory_pool()
        free, total = device.xp.cuda.runtime.memGetInfo()
        used, reserved = pool.used_bytes(), pool.total_bytes()
    groups = holdings(device)
    rest = used - sum(groups.values())
    rows = [*groups.items(), ("other arrays", max(0, rest)), ("pool, not in use", reserved - used)]
    rows.append(("outside of CuPy's pool", max(0, total - free - reserved)))
    width = max(len(label) for label, _ in rows)
    return "\n".join(
        [
            f"{name}: device {device} is out of memory: {error}. "
            f"Received: {', '.join(map(_show, data))}",
            f"Of {_size(total)}, {_size(free)} are free. What holds the rest:",
            *(f"  {label:<{width}}  {_size(size):>10}" for label, size in rows if size),
            'Use smaller batches, or a 16-bit dtype policy such as "mixed_bfloat16".',
        ]
    )


def holdings(device: Device) -> dict[str, int]:
    """Returns the bytes on a device by what holds them, found by walking all Python objects.

    Args:
        device: Only arrays on this one count, each once.
    """
    xp = device.xp
    found: dict[int, tuple[str, Any]] = {}  # by address; who is named first keeps it
    held = [_ask(obj) for obj in gc.get_objects() if type(obj) in HOLDERS]
    weights = [array for label, arrays in held if label == PARAMETERS for array in _flat(arrays)]
    shapes = {(tuple(array.shape), array.dtype) for array in weights if hasattr(array, "shape")}
    for label, arrays in sorted(held, key=lambda pair: _rank(pair[0])):
        for array in _flat(arrays):
            if isinstance(array, xp.ndarray) and array.device.id == device.index:
                found.setdefault(_address(array), (_named(label, array, shapes), array))
    sizes: dict[str, int] = {}
    for label, array in found.values():
        sizes[label] = sizes.get(label, 0) + array.size * array.dtype.itemsize
    return sizes


def _ask(obj):
    try:
        return HOLDERS[type(obj)](obj)
    except AttributeError:  # it is in the making: its array is what there is no memory for
        return TENSORS, ()


def _flat(arrays):
    for value in arrays:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _rank(label):
    """Variables come first: a tape may keep the very array that a weight is."""
    order = (PARAMETERS, STATE, KEPT, TENSORS)
    return next(i for i, start in enumerate(order) if label.startswith(start))


def _named(label, array, shapes):
    if label != TENSORS:
        return label
    return _GRADIENTS if (tuple(array.shape), array.dtype) in shapes else "other tensors"


def _address(array):
    return array.data.ptr


def _size(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
