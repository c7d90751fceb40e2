"""Kernel: a layer that applies a CUDA kernel of your own."""

from typing import Any, Self

from gpunet.cuda.custom import CustomKernel
from gpunet.errors import ArgumentError, SavingError, received
from gpunet.layers.base import Layer
from gpunet.saving import serializable
from gpunet.saving.registry import get_registered_object


@serializable("gpunet.layers")
class Kernel(Layer):
    """Applies a kernel made with `gpunet.cuda.kernel`, `elementwise` or `extern`.

    A model keeps the name of the kernel, not its code, and a file is never a source of code: who
    loads the model passes the kernel, `custom_objects={"name": kernel}`, or registers it with
    `saving.register_keras_serializable`.

    Args:
        kernel: The kernel. With several inputs the layer is called on a list of tensors.
        arguments: Attributes of the kernel whose names are those of arguments of `Layer`.
        **kwargs: Attributes of the kernel, and arguments of `Layer`.

    Raises:
        ArgumentError: If `kernel` is no kernel, or an argument is unknown.

    Example:
        >>> import gpunet
        >>> square = gpunet.cuda.elementwise("T x", "T y", "y = x * x", lambda x: x * x)
        >>> gpunet.layers.Kernel(square)(gpunet.tensor([1.0, 3.0])).tolist()
        [1.0, 9.0]
    """

    def __init__(self, kernel: CustomKernel, arguments: dict | None = None, **kwargs: Any):
        if not isinstance(kernel, CustomKernel):
            raise ArgumentError(
                "`kernel` must be made with `gpunet.cuda.kernel`, `elementwise` or `extern`. "
                f"{received(kernel=kernel)}"
            )
        own = {x: kwargs.pop(x) for x in kernel.attributes if x in kwargs and x not in _TAKEN}
        super().__init__(**kwargs)
        self.kernel = kernel
        self.arguments = {**own, **(arguments or {})}
        kernel.check_attributes(self.arguments)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns `kernel(inputs)`, or `kernel(*inputs)` for a list."""
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return self.kernel(*tensors, **self.arguments)

    def get_config(self) -> dict:
        """Returns the kernel, of which files keep the name, and its attributes."""
        return {
            **super().get_config(),
            "kernel": self.kernel,
            "arguments": dict(self.arguments),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Self:
        """Makes the layer again; a kernel that comes from a file is looked up by its name.

        Raises:
            SavingError: If the caller passed no kernel of this name.
        """
        config = dict(config)
        kernel = config.pop("kernel", None)
        name = kernel
        if isinstance(kernel, dict):
            name = (kernel.get("config") or {}).get("name")
            kernel = get_registered_object(name, custom_objects)
        if not isinstance(kernel, CustomKernel):
            raise SavingError(
                f"This model applies the CUDA kernel {name!r}. gpunet runs no code from files: "
                f"define the kernel and pass it, `custom_objects={{{name!r}: kernel}}`. "
                f"{received(kernel=name, found=kernel)}"
            )
        return cls(kernel, **config)


_TAKEN = ("activity_regularizer", "trainable", "dtype", "autocast", "name")
