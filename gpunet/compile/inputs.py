"""The inputs of a captured graph: fixed arrays, filled before each launch.

What comes in is a Tensor on the device - or something that is not one yet, and goes straight into
the fixed array when the graph is about to run: `HostArray`, a batch that still is on the host, and
`Rows`, a batch that is still spread over a data set on the device. Both turn into Tensors where
Python asks for one.
"""

from typing import Any

import numpy as np

from gpunet.backend.device import Device
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.trace import Symbol


class Pending:
    """An input whose values are not in a tensor yet; subclasses say how they get there.

    Attributes:
        shape: Of the tensor that it will be.
        dtype: Likewise.
        device: Where that will be.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    device: Device

    def fill(self, target: Any, machine: Any, upload: Any) -> None:
        """Puts the values into the fixed array of a graph.

        Args:
            target: The array.
            machine: Its machine.
            upload: What uploads arrays of the host into it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `fill`.")

    def __gpunet_tensor__(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define `__gpunet_tensor__`.")


class HostArray(Pending):
    """A batch on the host: it goes by pinned memory and a copy that runs beside the step.

    Args:
        array: NumPy array.
        device: Where it is needed.

    Example:
        >>> as_tensor(HostArray(np.arange(2), Device("cpu"))).tolist()
        [0, 1]
    """

    def __init__(self, array: np.ndarray, device: Device):
        self.array, self.device = array, device
        self.shape, self.dtype = array.shape, array.dtype

    def fill(self, target: Any, machine: Any, upload: Any) -> None:
        """Copies by `upload`."""
        upload(self.array)

    def __gpunet_tensor__(self) -> Tensor:
        return as_tensor(self.array, device=self.device)


class Rows(Pending):
    """A batch of a data set that is on the device as a whole: rows chosen by numbers there.

    The numbers are those from `start` to `stop` of `order`: all that changes from step to step is
    that cursor, and no row crosses the bus.

    Args:
        array: All rows, on the device.
        order: Numbers of rows, on the device.
        start: The first one of the batch.
        stop: One behind the last.
        device: The device.

    Example:
        >>> data, order = np.array([10, 11, 12, 13]), np.array([3, 1, 0, 2])
        >>> as_tensor(Rows(data, order, 1, 3, Device("cpu"))).tolist()
        [11, 10]
    """

    def __init__(self, array: Any, order: Any, start: int, stop: int, device: Device):
        self._array, self._rows, self.device = array, order[start:stop], device
        self.shape, self.dtype = (*self._rows.shape, *array.shape[1:]), array.dtype

    def fill(self, target: Any, machine: Any, upload: Any) -> None:
        """Gathers by one kernel."""
        machine.take(target, self._array, self._rows)

    def __gpunet_tensor__(self) -> Tensor:
        return Tensor(self._array.take(self._rows, axis=0), self.device)


class Inputs:
    """The fixed input arrays of one graph.

    Args:
        symbols: Shapes and dtypes of the inputs.
        machine: Where they are.

    Attributes:
        arrays: The arrays, by symbol.
    """

    def __init__(self, symbols: list[Symbol], machine: Any):
        self._machine = machine
        self.arrays = {s: machine.array(s.shape, s.dtype) for s in symbols}
        self._uploads: dict[Symbol, Any] = {}

    def fill(self, values: Any) -> None:
        """Puts the inputs of a call where the graph reads them.

        Args:
            values: A Tensor or a `Pending` for each symbol.
        """
        machine = self._machine
        for (symbol, array), x in zip(self.arrays.items(), values, strict=True):
            if not symbol.size:
                continue
            if isinstance(x, Tensor):
                machine.copy(array, x.data)
            else:
                x.fill(array, machine, self._upload(symbol, array, x))

    def _upload(self, symbol, array, x):
        """What uploads into an array; the pinned memory for it is taken when first needed."""
        if symbol not in self._uploads and isinstance(x, HostArray):
            self._uploads[symbol] = self._machine.uploader(array)
        return self._uploads.get(symbol)
