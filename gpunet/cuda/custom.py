"""CustomKernel: what users get: a kernel as an op, its gradients, and ways to look at it."""

import inspect
from collections.abc import Callable
from typing import Any

from gpunet.backend.nvrtc import Cubin
from gpunet.core.autograd import Tape, backpropagate, fresh_leaf, full
from gpunet.core.state import mode, state
from gpunet.cuda.bench import Timing, bench
from gpunet.cuda.check import Report, check
from gpunet.cuda.launch import ExternLauncher
from gpunet.cuda.op import KernelOp
from gpunet.errors import ArgumentError, received
from gpunet.saving.registry import get_registered_name


class CustomKernel(KernelOp):
    """A CUDA kernel and the Python function that says what it means; call it like the function.

    Where the tensors are on a GPU or on the emulator the kernel runs, on the CPU the function. The
    function also tells the shapes and dtypes of the results, and its derivative is that of the
    kernel, unless `gradient` or `gradient_kernel` gives another. Make one with
    `gpunet.cuda.kernel`, `gpunet.cuda.elementwise` or `gpunet.cuda.extern`.

    Args:
        name: What errors and graphs call it.
        reference: The Python function, in gpunet ops.
        inputs: Names of its tensors.
        attributes: Its other arguments, with their defaults (`inspect.Parameter.empty`: none).
        launcher: Launches the kernel.
        results: Names that results may have; `None`: any.

    Attributes:
        inputs: Names of the tensors.
        attributes: Names of the plain values.
        outputs: Names of the results.
        primitive: The op; it is not in gpunet's registry.
        backward: The `CustomKernel` of the gradient, or `None`.
    """

    backward: "CustomKernel | None" = None
    _gradient: tuple[Callable, tuple[str, ...]] | None = None

    # -- gradients ------------------------------------------------------------------------------

    def gradient(self, function: Callable) -> Callable:
        """Decorates a function, in ops, that gives the gradients of the inputs.

        Args:
            function: Its parameters are matched by name: inputs, results, attributes, and `dy` for
                the gradient with respect to a result `y`. Returns one gradient, or a tuple with
                one (or `None`) for each input. What it does not name is not kept in memory.

        Raises:
            ArgumentError: If a parameter is none of these.

        Example:
            >>> import gpunet
            >>> square = gpunet.cuda.elementwise("T x", "T y", "y = x * x", lambda x: x * x)
            >>> @square.gradient
            ... def _(dy, x):
            ...     return 2 * x * dy
            >>> gpunet.grad(lambda x: square(x).sum())(gpunet.tensor([1.0, 3.0])).tolist()
            [2.0, 6.0]
        """
        names = tuple(inspect.signature(function).parameters)
        cotangents = [f"d{y}" for y in self.outputs]
        known = [*cotangents, *self.inputs, *self.outputs, *self.attributes]
        if unknown := [name for name in names if name not in known]:
            raise ArgumentError(
                f"{self.__name__}: the parameters of its gradient must be among {known}. "
                f"{received(unknown=unknown)}"
            )
        self._gradient = function, names
        if self.backward is None:
            kept = tuple(x for x in names if x in self.inputs + self.outputs)

            def pull(g, *values, **attributes):
                gs = g if isinstance(g, tuple) else (g,)
                given = dict(zip([*cotangents, *kept], [*gs, *values], strict=True))
                given |= attributes
                return function(**{name: given[name] for name in names})

            self.primitive.vjp(pull, kept)
        return function

    def gradient_kernel(
        self,
        source: Any,
        *,
        entry: str | None = None,
        threads: Any = None,
        block: int | tuple[int, ...] = 256,
        shared: Any = 0,
        contiguous: bool = True,
        init: float | None = None,
        convert: Callable | None = None,
        devices: tuple[str, ...] = ("cuda",),
    ) -> Callable:
        """Gives the gradients by another kernel, matched by name as the first one is.

        Its inputs are those of the kernel, the results, and `dy` for the gradient with respect to
        a result `y`; it writes `dx` for an input `x`. An input that it gives no gradient for gets
        that of the reference. What it means, in ops, is `gradient` or else the derivative of the
        reference: this runs on the CPU, and gives second derivatives. `backward.check` compares.

        Args:
            source: CUDA C++, a `.cu` file, or a callable as for `extern`.
            entry: As for `kernel`, like all that follow up to `init`.
            threads: Default: the size of the first gradient.
            block: Threads of a block.
            shared: Bytes of dynamic shared memory.
            contiguous: Whether the arrays it reads are made C-contiguous first.
            init: What the gradients are filled with first.
            convert: As for `extern`.
            devices: As for `extern`.

        Returns:
            `gradient`, so that this may decorate a function which gives the gradients in ops.

        Raises:
            KernelError: If a parameter of the kernel matches nothing.

        Example:
            >>> import gpunet
            >>> square = gpunet.cuda.elementwise("T x", "T y", "y = x * x", lambda x: x * x)
            >>> source = '''
            ... template <typename T>
            ... __global__ void square_gradient(const T* dy, const T* x, T* dx, long long n) {
            ...   GPUNET_LOOP(i, n) dx[i] = from_float<T>(2 * to_float(x[i]) * to_float(dy[i]));
            ... }'''
            >>> _ = square.gradient_kernel(source)
            >>> gpunet.grad(lambda x: square(x).sum())(gpunet.tensor([1.0, 3.0])).tolist()
            [2.0, 6.0]
        """
        from gpunet.cuda.define import make_launcher

        name = f"{self.__name__}_gradient"
        launch = {"entry": entry, "threads": threads, "block": block, "shared": shared}
        launch |= {"contiguous": contiguous, "init": init, "convert": convert, "devices": devices}
        launcher = make_launcher(source, name, None, launch)
        names = [*self.inputs, *self.outputs, *[f"d{y}" for y in self.outputs]]
        defaults = {x: self.__signature__.parameters[x].default for x in self.attributes}
        wanted = [f"d{x}" for x in self.inputs]
        self.backward = CustomKernel(name, self._all_gradients, names, defaults, launcher, wanted)
        places = [wanted.index(dx) for dx in self.backward.outputs]
        self.backward._like = places
        self.backward.reference = lambda *xs, **attributes: [
            self._all_gradients(*xs, **attributes)[i] for i in places
        ]
        self.primitive.vjp(self._pull, ("needs", *self.inputs, *self.outputs))
        return self.gradient

    def _pull(self, g, needs, *kept, **attributes):
        """The vjp with a gradient kernel: what that does not write, the reference gives."""
        assert self.backward is not None
        gs = g if isinstance(g, tuple) else (g,)
        out = self.backward.primitive(*kept, *gs, **attributes)
        outs = out if isinstance(out, tuple) else (out,)
        found = dict(zip(self.backward.outputs, outs, strict=True))
        gradients = [found.get(f"d{x}") for x in self.inputs]
        missing = [dx is None and need for dx, need in zip(gradients, needs, strict=True)]
        if any(missing):
            rest = self._all_gradients(*kept, *gs, **attributes)
            gradients = [b if m else a for a, b, m in zip(gradients, rest, missing, strict=True)]
        return tuple(gradients)

    def _all_gradients(self, *tensors, **attributes):
        """The gradient of every input, by the user's function or by differentiating the reference.

        Takes the inputs, the results, and the gradients with respect to the results.
        """
        n, m = len(self.inputs), len(self.outputs)
        xs, gs = tensors[:n], tensors[n + m :]
        if self._gradient is not None:
            function, names = self._gradient
            cotangents = [f"d{y}" for y in self.outputs]
            given = dict(zip([*self.inputs, *self.outputs, *cotangents], tensors, strict=True))
            given |= attributes
            found = function(**{name: given[name] for name in names})
            found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        else:
            with mode(tape=state.tape or Tape()):
                leaves = [fresh_leaf(x) for x in xs]
                ys = self._meaning(*leaves, **attributes)
                ys = ys if isinstance(ys, tuple) else (ys,)
            pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if y.node is not None]
            places = [(x.node, x.slot) for x in leaves]
            found = backpropagate([y for y, _ in pairs], [g for _, g in pairs], places)
        zip_ = zip(found, xs, strict=True)
        return [full(x.shape, x.dtype, 0, x.device) if dx is None else dx for dx, x in zip_]

    def get_config(self) -> dict:
        """Returns the name that a saved model keeps of the kernel; its code is not saved."""
        return {"name": get_registered_name(self)}

    # -- looking at it --------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The translation unit that compilers get; for a wrapped callable, its Python source."""
        if isinstance(self.launcher, ExternLauncher):
            return inspect.getsource(self.launcher.function)
        return self.launcher.text()

    def compile(self, dtype: Any = "float32", arch: str = "sm_90", **attributes: Any) -> Cubin:
        """Compiles the kernel for a GPU architecture with NVRTC; there need not be a GPU.

        Args:
            dtype: What every `typename` of the template stores.
            arch: `"sm_80"` (A100), `"sm_90"` (H100, H200), ...
            **attributes: Those that are template arguments; default: their defaults.

        Returns:
            The machine code, with `registers`, `spills` and `shared` memory.

        Raises:
            KernelError: If it does not compile; the message names file and line.
            DeviceError: If NVRTC is not installed.
        """
        if isinstance(self.launcher, ExternLauncher):
            raise ArgumentError(
                f"{self.__name__} wraps a callable, which compiles its kernel by itself. "
                f"{received(callable=self.launcher.function)}"
            )
        parameters = self.__signature__.parameters
        values = {x: parameters[x].default for x in self.attributes} | attributes
        return self.launcher.compile(dtype, arch, values)

    def check(self, *args: Any, device: str | None = None, **attributes: Any) -> Report:
        """Compares the kernel with its reference, on the given and on many other inputs.

        In float32, float16 and bfloat16, at odd sizes, empty and strided, against the reference in
        float64; on the emulator also in three orders of its threads; and the gradients, against
        central differences and, of a gradient kernel, against the reference's.

        Args:
            *args: Arguments as for a call; small ones, as each is run many times.
            device: `"cuda:0"` or `"emulator"`; default: a GPU if there is one, else the emulator.
            **attributes: As for a call.

        Returns:
            A table: a row for each check, with the largest error. It raises nothing for wrong
            results; `assert_ok` does.

        Raises:
            DeviceError: If there is neither a GPU nor a C++ compiler.
        """
        return check(self, args, attributes, device)

    def assert_ok(self, *args: Any, device: str | None = None, **attributes: Any) -> None:
        """Same as `check`, for tests.

        Raises:
            AssertionError: With the table, if a check failed.
        """
        report = self.check(*args, device=device, **attributes)
        assert report.ok, f"\n{report}"

    def bench(self, *args: Any, **attributes: Any) -> Timing:
        """Measures the kernel on a GPU.

        Args:
            *args: Arguments as for a call, on a CUDA device.
            **attributes: As for a call.

        Returns:
            Microseconds, bytes a second, and the share of a copy measured beside it.

        Raises:
            DeviceError: If the tensors are not on a GPU: the emulator's time says nothing.
        """
        return bench(self, args, attributes)
