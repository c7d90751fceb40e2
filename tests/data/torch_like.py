"""Stand-ins for what gpunet knows of torch, which is too large to install for a few tests."""

import numpy as np


class TorchTensor:
    """Like a torch tensor that wants a gradient: NumPy gets it only after `detach`."""

    def __init__(self, values, requires_grad=None):
        self._values = np.asarray(values)
        kind = self._values.dtype.kind
        self.requires_grad = kind == "f" if requires_grad is None else requires_grad
        self.shape, self.dtype = self._values.shape, f"torch.{self._values.dtype}"

    def detach(self):
        return TorchTensor(self._values, requires_grad=False)

    def cpu(self):
        return self

    def numpy(self):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self._values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return TorchTensor(self._values[index], self.requires_grad)


class DataLoader:
    """Like torch's, over a pair of arrays: batches are lists of tensors."""

    def __init__(self, x, y, batch_size):
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.x), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield [TorchTensor(self.x[part], False), TorchTensor(self.y[part], False)]


DataLoader.__module__ = "torch.utils.data.dataloader"
