"""`CustomKernel.check`: the kernel against its reference, as a table."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunet.backend import emulator
from gpunet.backend.device import Device, check_available, cuda_status
from gpunet.backend.memory import to_numpy
from gpunet.core.tensor import Tensor
from gpunet.dtypes import numpy_dtype
from gpunet.errors import DeviceError, DTypeError, GpunetError
from gpunet.testing.gradients import check_gradients
from gpunet.testing.numbers import assert_close
from gpunet.testing.ops import strided

_DTYPES = ("float32", "float16", "bfloat16")
_SIZES = (0, 1, 31, 33, 1025)  # lengths that each axis is tried with
_LARGEST = 2**18  # elements that an input of such a length may have
_ORDERS = (("reverse", 0), ("random", 1), ("random", 2))


@dataclass(frozen=True)
class Row:
    """One check: `result` is `"ok"`, `"FAILED"` or why it does not apply."""

    check: str
    dtype: str
    shapes: str
    error: float | None
    result: str
    detail: str = ""


@dataclass
class Report:
    """What `CustomKernel.check` found; prints as a table.

    Attributes:
        name: The kernel.
        device: Where it ran.
        rows: The checks.
    """

    name: str
    device: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(row.result != "FAILED" for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        """The checks that failed."""
        return [row for row in self.rows if row.result == "FAILED"]

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=f"{self.name} on {self.device}, against its reference in float64")
        for column in ("check", "dtype", "shapes"):
            table.add_column(column)
        table.add_column("largest error", justify="right")
        table.add_column("result")
        for row in self.rows:
            error = "" if row.error is None else f"{row.error:.1e}"
            table.add_row(row.check, row.dtype, row.shapes, error, row.result)
        return table

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=110, color_system=None, force_jupyter=False)
        console.print(self)
        text = console.file.getvalue().rstrip()  # type: ignore[attr-defined]
        details = [
            f"\n{row.check}, {row.dtype}, {row.shapes}:\n{row.detail}" for row in self.failures
        ]
        return "\n".join([text, *details])


def check(kernel: Any, args: tuple, attributes: dict, device: str | None) -> Report:
    """Checks a `CustomKernel`; see its `check`."""
    place = _place(kernel, device)
    tensors, values = kernel.arguments(*args, **attributes)
    arrays = [np.asarray(to_numpy(x.data)) for x in tensors]
    given = {x.dtype.name for x in arrays if x.dtype.kind in "fV"}
    kernel(*[Tensor(x, Device("cpu")) for x in arrays], **values)  # refuses what does not fit
    report = Report(kernel.__name__, str(place))
    rows = report.rows
    dtypes = dict.fromkeys([*(given - {"float64"}), *_DTYPES]) if given else {"": None}
    for dtype in dtypes:
        rows.append(_compare("kernel", kernel, _cast(arrays, dtype), values, place, dtype))
    first = next((row.dtype for row in rows if row.result != "not taken"), "")
    rows.append(_unchanged(kernel, _cast(arrays, first), values, place, first))
    views = strided(_cast(arrays, first))
    rows.append(_compare("strided input", kernel, views, values, place, first))
    for label, resized in _resized(_cast(arrays, first)):
        rows.append(_compare(label, kernel, resized, values, place, first))
    if place.kind == "emulator":
        rows.append(_orders(kernel, _cast(arrays, first), values, place, first))
    if given:
        rows += _gradients(kernel, arrays, values, place, dtypes)
    return report


def _place(kernel, device):
    """Returns the device to check on: one that the kernel runs on."""
    if device is not None:
        place = check_available(Device(device))
        if place.kind in kernel.launcher.devices:
            return place
        raise DeviceError(
            f"{kernel.__name__}.check compares on a device where the kernel runs, one of "
            f"{kernel.launcher.devices}. Received: device={device!r}"
        )
    works, why_not = emulator.available()
    if "cuda" in kernel.launcher.devices and cuda_status()[0]:
        return Device("cuda:0")
    if "emulator" in kernel.launcher.devices and works:
        return Device("emulator")
    raise DeviceError(
        f"{kernel.__name__}.check needs a device where the kernel runs, one of "
        f"{kernel.launcher.devices}. There is no GPU: {cuda_status()[1]}. The emulator: {why_not}"
    )


def _cast(arrays, dtype):
    if not dtype:
        return arrays
    wanted = numpy_dtype(dtype)
    return [x.astype(wanted) if x.dtype.kind in "fV" else x for x in arrays]


def _shown(arrays):
    return " ".join(str(tuple(x.shape)).replace(" ", "") for x in arrays)


def _run(kernel, arrays, values, place):
    with place.activate():
        tensors = [Tensor(place.xp.asarray(x), place) for x in arrays]
    out = kernel(*tensors, **values)
    outs = out if isinstance(out, tuple) else (out,)
    return [np.asarray(to_numpy(y.data)) for y in outs]


def _expected(kernel, arrays, values):
    """Returns what the reference gives in float64, and on the very values of the inputs."""
    wide = [Tensor(x, Device("cpu")) for x in _cast(arrays, "float64")]
    out = kernel.reference(*wide, **values)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    return [y.numpy() for y in outs]


def _compare(label, kernel, arrays, values, place, dtype):
    shapes = _shown(arrays)
    try:
        expected = _expected(kernel, arrays, values)
    except (GpunetError, ValueError, TypeError, IndexError) as error:
        return Row(label, dtype, shapes, None, "refused by the reference", str(error))
    try:
        found = _run(kernel, arrays, values, place)
    except DTypeError as error:
        return Row(label, dtype, shapes, None, "not taken", str(error))
    except GpunetError as error:
        return Row(label, dtype, shapes, None, "FAILED", str(error))
    worst, failures = 0.0, []
    for name, y, reference in zip(kernel.outputs, found, expected, strict=True):
        worst = max(worst, _largest(y, reference))
        precision = y.dtype.name if y.dtype.kind in "fV" else "bool"
        try:
            assert_close(y, reference, dtype if precision == "float64" and dtype else precision)
        except AssertionError as error:
            failures.append(f"{name}: {str(error).strip()}")
    return Row(label, dtype, shapes, worst, "FAILED" if failures else "ok", "\n".join(failures))


def _largest(y, reference):
    if y.shape != reference.shape:
        return math.inf
    difference = np.abs(y.astype(np.float64) - reference.astype(np.float64))
    same = (y == reference) | ((y != y) & (reference != reference))
    return float(np.where(same, 0.0, difference).max(initial=0.0))


def _unchanged(kernel, arrays, values, place, dtype):
    copies = [x.copy() for x in arrays]
    try:
        _run(kernel, arrays, values, place)
    except GpunetError as error:
        return Row("inputs unchanged", dtype, _shown(arrays), None, "FAILED", str(error))
    same = all(x.tobytes() == copy.tobytes() for x, copy in zip(arrays, copies, strict=True))
    return Row("inputs unchanged", dtype, _shown(arrays), None, "ok" if same else "FAILED")


def _resized(arrays: Sequence[np.ndarray]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yields the inputs with other lengths: all axes of one length change together."""
    for length in dict.fromkeys(n for x in arrays for n in x.shape):
        for size in _SIZES:
            shapes = [tuple(size if n == length else n for n in x.shape) for x in arrays]
            if size != length and all(math.prod(shape) <= _LARGEST for shape in shapes):
                pairs = zip(arrays, shapes, strict=True)
                yield f"length {length} -> {size}", [np.resize(x, shape) for x, shape in pairs]


def _orders(kernel, arrays, values, place, dtype):
    """The same bits in every order of the threads, which a race or a missing barrier breaks."""
    label = "3 orders of threads"
    try:
        forward = _run(kernel, arrays, values, place)
        for name, seed in _ORDERS:
            with emulator.schedule(name, seed):
                found = _run(kernel, arrays, values, place)
            for y, reference in zip(found, forward, strict=True):
                if y.tobytes() != reference.tobytes():
                    detail = f"other bits when the threads run in {name} order: a race"
                    error = _largest(y, reference)
                    return Row(label, dtype, _shown(arrays), error, "FAILED", detail)
    except GpunetError as error:
        return Row(label, dtype, _shown(arrays), None, "FAILED", str(error))
    return Row(label, dtype, _shown(arrays), 0.0, "ok")


def _gradients(kernel, arrays, values, place, dtypes):
    rows = []
    label = "gradients, by differences"
    wide = _cast(arrays, "float64")
    try:
        check_gradients(lambda *xs: kernel.primitive(*xs, **values), wide)
        rows.append(Row(label, "float64", _shown(arrays), None, "ok"))
    except (AssertionError, GpunetError, ValueError, TypeError) as error:
        rows.append(Row(label, "float64", _shown(arrays), None, "FAILED", str(error)))
    if kernel.backward is None:
        return rows
    rng = np.random.default_rng(0)
    ys = _expected(kernel, arrays, values)
    given = [*wide, *ys, *[rng.standard_normal(y.shape) for y in ys]]
    for dtype in dtypes:
        row = _compare(
            "gradient kernel", kernel.backward, _cast(given, dtype), values, place, dtype
        )
        rows.append(row)
    if place.kind == "emulator":
        first = next((row.dtype for row in rows[1:] if row.result != "not taken"), "")
        rows.append(_orders(kernel.backward, _cast(given, first), values, place, first))
    return rows
