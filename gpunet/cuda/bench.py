"""How fast a kernel is, on a GPU: time, bandwidth, and its share of what a plain copy reaches."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.errors import DeviceError

_COLD = 256 * 1024**2  # bytes written between two launches, more than any L2 cache holds
_REPEATS = 20


@dataclass(frozen=True)
class Timing:
    """What `CustomKernel.bench` measured.

    Attributes:
        name: The kernel.
        device: Name of the GPU.
        microseconds: Median of the launches, with a cold L2 cache.
        bytes: Of all inputs and results, each counted once.
        copy_microseconds: Of a copy that moves as many bytes, measured in the same way.
    """

    name: str
    device: str
    microseconds: float
    bytes: int
    copy_microseconds: float

    @property
    def gigabytes_per_second(self) -> float:
        """Bytes a second, in units of 1e9."""
        return self.bytes / self.microseconds / 1e3

    @property
    def share_of_copy(self) -> float:
        """How near it comes to the copy: 1 is as fast."""
        return self.copy_microseconds / self.microseconds

    def __repr__(self) -> str:
        return (
            f"{self.name} on {self.device}: {self.microseconds:.1f} us, "
            f"{self.gigabytes_per_second:.0f} GB/s, {self.share_of_copy:.0%} of a copy"
        )


def bench(kernel: Any, args: tuple, attributes: dict) -> Timing:
    """Measures a `CustomKernel`; see its `bench`."""
    tensors, values = kernel.arguments(*args, **attributes)
    device = tensors[0].device
    if device.kind != "cuda":
        raise DeviceError(
            f"{kernel.__name__}.bench measures on a GPU; there is nothing to time on this device, "
            f"and gpunet makes no figures up. Received: device={device}"
        )
    out = kernel(*tensors, **values)
    results = out if isinstance(out, tuple) else (out,)
    total = sum(x.nbytes for x in (*tensors, *results))
    cupy = device.xp
    with device.activate():
        source = cupy.zeros(max(1, total // 2), "uint8")
        target = cupy.empty_like(source)
        copy = _median(cupy, lambda: cupy.copyto(target, source))
        time = _median(cupy, lambda: kernel(*tensors, **values))
        name = cupy.cuda.runtime.getDeviceProperties(device.index)["name"].decode()
    return Timing(kernel.__name__, name, time, total, copy)


def _median(cupy, f):
    """Returns the median microseconds of `f` on the GPU, each time with a cold L2 cache.

    The GPU is kept busy with the write while Python prepares the launch, so that the events
    measure the kernel and not Python.
    """
    cold = cupy.empty(_COLD, "uint8")
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    for _ in range(3):
        f()
    times = []
    for _ in range(_REPEATS):
        for _ in range(4):
            cold.fill(0)
        start.record()
        f()
        stop.record()
        stop.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, stop) * 1e3)
    return float(np.median(times))
