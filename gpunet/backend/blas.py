"""Matrix products on a GPU through cuBLASLt, called by ctypes.

CuPy 14 has no batched bfloat16 product, computes batched float16 in float32, cannot fuse a bias or
an activation, and refuses cuBLAS while a stream is captured. cuBLASLt does all of it: stream and
workspace are arguments of each call, and the algorithm is chosen once for each shape and kept.

cuBLASLt stores matrices column by column. A row-major matrix is its own transpose there, so the
product `y = a @ b` of row-major arrays is asked for as `y.T = b.T @ a.T`, which moves nothing.
"""

import ctypes
import functools
import math
import threading
from typing import Any, NamedTuple

import numpy as np

from gpunet.dtypes import BFLOAT16
from gpunet.errors import ArgumentError, DeviceError, DTypeError, KernelError, ShapeError, received

# Numbers of enumerations in cublasLt.h, cublas_api.h and library_types.h.
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 2, BFLOAT16: 14}
_FLOAT32 = 0
_COMPUTE_32F, _COMPUTE_TF32 = 68, 77
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8
_AUX_POINTER, _AUX_LD, _AUX_BATCH_STRIDE = 11, 12, 13
_BATCH_COUNT, _BATCH_STRIDE = 5, 6
_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)  # of A, B, C, D
_BIAS, _AUX, _GRADIENT = 4, 128, 16
_EPILOGUES = {
    "none": 1,
    "bias": _BIAS,
    "relu": 2,
    "relu_bias": 2 | _BIAS,
    "gelu": 32,
    "gelu_bias": 32 | _BIAS,
    "gelu_aux_bias": 32 | _AUX | _BIAS,
    "dgelu": 64 | _AUX,
    "dgelu_bias_gradient": 64 | _AUX | _GRADIENT,
    "bias_gradient": 256,  # by A of cuBLASLt, which is `b` here
}
WORKSPACE_BYTES = 32 << 20  # what NVIDIA recommends for Hopper
_ALIGNMENT = 16
_ONE, _ZERO = ctypes.c_float(1), ctypes.c_float(0)


def supports(dtype: Any) -> bool:
    """Tells whether `matmul` takes a dtype: float32, float16 or bfloat16."""
    return np.dtype(dtype) in _TYPES


def matmul(
    a: Any,
    b: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    epilogue: str = "none",
    bias: Any = None,
    aux: Any = None,
    out: Any = None,
    tf32: bool = False,
) -> Any:
    """Returns the matrix product of two CuPy arrays, summed in float32 and rounded once.

    Views are read where they are if one of their last two axes is contiguous and their leading
    axes advance evenly (also by 0: broadcast); others are copied.

    Args:
        a: Of shape `(..., m, k)`, or `(..., k, m)` with `transpose_a`; float32, float16, bfloat16.
        b: Of shape `(..., k, n)`, or `(..., n, k)` with `transpose_b`; of the same dtype. Leading
            axes broadcast.
        transpose_a: Whether the last two axes of `a` change places.
        transpose_b: Likewise.
        epilogue: What follows in the same kernel: `"bias"`, `"relu"`, `"relu_bias"`, `"gelu"`,
            `"gelu_bias"` (the tanh form), `"gelu_aux_bias"`, which also writes what went into the
            GELU to `aux`; `"dgelu"`, which multiplies the product by the slope of the GELU at
            `aux`, `"dgelu_bias_gradient"`, which also writes the column sums of that to `bias`;
            `"bias_gradient"`, which also writes the sums of `b` over `k` to `bias`.
        bias: Of shape `(n,)`, of the dtype of `a`; read, or written by the gradients.
        aux: Of the shape and dtype of the result, contiguous.
        out: Where the result goes; a new array by default.
        tf32: Whether float32 is multiplied in TF32: ten bits of mantissa, several times faster.

    Returns:
        Array of shape `(..., m, n)`.

    Raises:
        ShapeError: If shapes do not match.
        DTypeError: If the dtypes differ, or cuBLASLt has no product for them.
        ArgumentError: If an epilogue lacks its `bias` or `aux`.
        KernelError: If cuBLASLt fails.

    Source: NVIDIA, cuBLAS library documentation, section cuBLASLt.
    """
    import cupy

    shape, batch, k = _shapes(a, b, transpose_a, transpose_b)
    _check(a, b, epilogue, bias, aux, shape)
    y = cupy.empty(shape, a.dtype) if out is None else _checked_out(out, shape, a.dtype)
    if not y.size:
        return y
    if not k:
        a, b = (cupy.zeros((*x.shape[:-2], *s), x.dtype) for x, s in _one_zero(a, b, shape))
        transpose_a = transpose_b = False
    (a, left), (b, right) = _layout(a, batch, transpose_a), _layout(b, batch, transpose_b)
    count = math.prod(batch)
    aligned = all(x is None or x.data.ptr % _ALIGNMENT == 0 for x in (a, b, y, bias, aux))
    device = cupy.cuda.runtime.getDevice()
    plan = _plan(
        device, _TYPES[a.dtype], right, left, shape[-2:], count, epilogue, tf32, bool(aligned)
    )
    plan.run(*[None if x is None else x.data.ptr for x in (b, a, y, bias, aux)])
    return y


def _one_zero(a, b, shape):
    """Operands that sum one zero product, where there is none to sum."""
    return (a, (shape[-2], 1)), (b, (1, shape[-1]))


def _shapes(a, b, transpose_a, transpose_b):
    """Returns the shape of the product, its leading axes, and how many products are summed."""
    problem = f"Received: a={a.shape}, b={b.shape}, {transpose_a=}, {transpose_b=}"
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"A matrix product needs two axes of each operand. {problem}")
    m, k = reversed(a.shape[-2:]) if transpose_a else a.shape[-2:]
    k2, n = reversed(b.shape[-2:]) if transpose_b else b.shape[-2:]
    if k != k2:
        raise ShapeError(f"The axes that are summed over must have one length. {problem}")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        raise ShapeError(f"The leading axes must broadcast. {problem}") from error
    return (*batch, m, n), batch, k


def _check(a, b, epilogue, bias, aux, shape):
    if a.dtype != b.dtype or a.dtype not in _TYPES:
        raise DTypeError(
            "cuBLASLt multiplies two arrays of float32, float16 or bfloat16. "
            + received(a=str(a.dtype), b=str(b.dtype))
        )
    if epilogue not in _EPILOGUES:
        raise ArgumentError(
            f"`epilogue` must be one of {sorted(_EPILOGUES)}. {received(epilogue=epilogue)}"
        )
    if "gradient" in epilogue and len(shape) > 2:
        raise ShapeError(f"{epilogue!r} sums over one product, not a batch. Received: {shape}")
    if ("aux" in epilogue or "dgelu" in epilogue) and shape[-1] % 8:
        raise ShapeError(
            f"The epilogue {epilogue!r} needs a multiple of 8 columns. Received: shape={shape}"
        )
    arrays = {
        "bias": (bias, "bias" in epilogue, shape[-1:]),
        "aux": (aux, "aux" in epilogue or "dgelu" in epilogue, shape),
    }
    for name, (array, needed, expected) in arrays.items():
        given = array is not None and (array.shape, str(array.dtype), array.flags.c_contiguous)
        wanted = needed and (expected, str(a.dtype), True)
        if given != wanted:
            raise ArgumentError(
                f"The epilogue {epilogue!r} needs `{name}` of (shape, dtype, contiguous) {wanted}. "
                f"Received: {name}={given}"
            )


def _checked_out(out, shape, dtype):
    if (out.shape, out.dtype) != (shape, dtype) or not out.flags.c_contiguous:
        raise ShapeError(
            f"`out` must be a contiguous array of shape {shape}, {dtype}. "
            + received(shape=out.shape, dtype=str(out.dtype))
        )
    return out


# -- how an operand lies in memory ----------------------------------------------------------------


class Layout(NamedTuple):
    """A column-major matrix, or a batch of them, at even distances (in elements)."""

    rows: int
    columns: int
    leading: int  # distance between columns
    stride: int  # distance between matrices
    transposed: bool  # whether the product takes its transpose


def _layout(x: Any, batch: tuple[int, ...], transpose: bool) -> tuple[Any, Layout]:
    """Returns an operand, copied if need be, and how it lies in memory."""
    import cupy

    stride = _even_stride(x, batch)
    found = None if stride is None else _matrix(x, stride, transpose)
    if found:
        return x, found
    x = cupy.ascontiguousarray(x)
    rows, columns = x.shape[-2:]
    stride = _even_stride(x, batch)
    if stride is None:
        x = cupy.ascontiguousarray(cupy.broadcast_to(x, (*batch, rows, columns)))
        stride = rows * columns
    return x, Layout(columns, rows, columns, stride, transpose)


def _matrix(x, stride, transpose):
    """The last two axes as a column-major matrix, or None if neither of them is contiguous."""
    rows, columns = x.shape[-2:]
    down, across = (step // x.itemsize for step in x.strides[-2:])
    if (columns == 1 or across == 1) and (rows == 1 or down >= columns):
        return Layout(columns, rows, columns if rows == 1 else down, stride, transpose)
    if (rows == 1 or down == 1) and (columns == 1 or across >= rows):
        return Layout(rows, columns, rows if columns == 1 else across, stride, not transpose)
    return None


def _even_stride(x: Any, batch: tuple[int, ...]) -> int | None:
    """Returns the distance between matrices that serves all leading axes, if there is one."""
    missing = len(batch) - (x.ndim - 2)
    lengths = (1,) * missing + x.shape[:-2]
    steps = (0,) * missing + tuple(s // x.itemsize for s in x.strides[:-2])
    stride = expected = None
    for n, length, step in reversed(list(zip(batch, lengths, steps, strict=True))):
        if n == 1:
            continue
        step = 0 if length == 1 else step
        if stride is None:
            stride = step
        elif step != expected:
            return None
        expected = step * n
    return None if stride and stride < 0 else stride or 0


# -- plans ----------------------------------------------------------------------------------------


class _Heuristic(ctypes.Structure):  # cublasLtMatmulHeuristicResult_t
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class _Plan:
    """One product of fixed shapes: its descriptors, and the algorithm that cuBLASLt chose."""

    def __init__(self, device, dtype, a, b, shape, count, epilogue, tf32, aligned):
        m, n = shape
        self.what = f"matmul {(m, n)} x {count}, dtype {dtype}, epilogue {epilogue}"
        self._device, self._lock = device, threading.Lock()
        self._operation = ctypes.c_void_p()
        compute = _COMPUTE_TF32 if tf32 else _COMPUTE_32F
        _call("MatmulDescCreate", ctypes.byref(self._operation), compute, _FLOAT32)
        self._set(_TRANSA, ctypes.c_int32(a.transposed))
        self._set(_TRANSB, ctypes.c_int32(b.transposed))
        self._set(_EPILOGUE, ctypes.c_uint32(_EPILOGUES[epilogue]))
        alignment = _ALIGNMENT if aligned else 4 if dtype == _FLOAT32 else 2
        if "bias" in epilogue:  # while the algorithm is chosen, an address tells its alignment
            self._set(_BIAS_POINTER, ctypes.c_void_p(alignment))
        if "aux" in epilogue or "dgelu" in epilogue:
            self._set(_AUX_POINTER, ctypes.c_void_p(alignment))
            self._set(_AUX_LD, ctypes.c_int64(n))
            self._set(_AUX_BATCH_STRIDE, ctypes.c_int64(m * n))
        y = Layout(n, m, n, m * n, False)
        self._layouts = [_matrix_layout(dtype, layout, count) for layout in (a, b, y)]
        self._algorithm = self._choose(alignment)

    def _set(self, attribute, value):
        size = ctypes.c_size_t(ctypes.sizeof(value))
        _call("MatmulDescSetAttribute", self._operation, attribute, ctypes.byref(value), size)

    def _choose(self, alignment):
        preference, found = ctypes.c_void_p(), ctypes.c_int()
        _call("MatmulPreferenceCreate", ctypes.byref(preference))
        limits = {_WORKSPACE: ctypes.c_uint64(WORKSPACE_BYTES)}
        limits |= {attribute: ctypes.c_uint32(alignment) for attribute in _ALIGNMENTS}
        for attribute, value in limits.items():
            address, size = ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))
            _call("MatmulPreferenceSetAttribute", preference, attribute, address, size)
        result = _Heuristic()
        a, b, y = self._layouts
        try:
            _call(
                "MatmulAlgoGetHeuristic",
                *(_handle(self._device), self._operation, a, b, y, y, preference),
                *(1, ctypes.byref(result), ctypes.byref(found)),
                what=self.what,
            )
        finally:
            _call("MatmulPreferenceDestroy", preference)
        if not found.value or result.state:
            raise KernelError(f"cuBLASLt has no algorithm for {self.what}.")
        return result

    def run(self, a, b, y, bias, aux):
        """Puts the product on the current stream; all arguments are addresses."""
        import cupy

        current = cupy.cuda.get_current_stream()
        stream = current.ptr
        workspace = _workspace(self._device, current)
        with self._lock:  # the addresses are part of the descriptor
            for attribute, pointer in ((_BIAS_POINTER, bias), (_AUX_POINTER, aux)):
                if pointer is not None:
                    self._set(attribute, ctypes.c_void_p(pointer))
            left, right, result = self._layouts
            _call(
                "Matmul",
                *(_handle(self._device), self._operation, ctypes.byref(_ONE)),
                *(ctypes.c_void_p(a), left, ctypes.c_void_p(b), right, ctypes.byref(_ZERO)),
                *(ctypes.c_void_p(y), result, ctypes.c_void_p(y), result),
                *(ctypes.byref(self._algorithm), ctypes.c_void_p(workspace.data.ptr)),
                *(ctypes.c_size_t(WORKSPACE_BYTES), ctypes.c_void_p(stream)),
                what=self.what,
            )


@functools.lru_cache(maxsize=4096)
def _plan(*key):
    return _Plan(*key)


def _matrix_layout(dtype, layout, count):
    made = ctypes.c_void_p()
    sizes = ctypes.c_uint64(layout.rows), ctypes.c_uint64(layout.columns)
    _call("MatrixLayoutCreate", ctypes.byref(made), dtype, *sizes, ctypes.c_int64(layout.leading))
    if count > 1:
        batch = {_BATCH_COUNT: ctypes.c_int32(count), _BATCH_STRIDE: ctypes.c_int64(layout.stride)}
        for attribute, value in batch.items():
            address, size = ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))
            _call("MatrixLayoutSetAttribute", made, attribute, address, size)
    return made


_workspaces: dict[tuple[int, int], Any] = {}


def _workspace(device, stream):
    """Scratch memory of a stream; products on one stream follow each other, so they share it.

    A captured graph keeps the address: it must run on the stream that it was captured on. Where a
    stream captures before it has a workspace, the memory belongs to the graph and is not kept here.
    """
    import cupy

    found = _workspaces.get((device, stream.ptr))
    if found is None:
        with cupy.cuda.Device(device):
            found = cupy.empty(WORKSPACE_BYTES, np.uint8)
        if not stream.is_capturing():
            _workspaces[device, stream.ptr] = found
    return found


# -- the library ----------------------------------------------------------------------------------


@functools.cache
def _handle(device):
    import cupy

    handle = ctypes.c_void_p()
    with cupy.cuda.Device(device):
        _call("Create", ctypes.byref(handle))
    return handle


def _call(function, *args, what=""):
    status = getattr(_library(), f"cublasLt{function}")(*args)
    if status:
        reason = _library().cublasLtGetStatusString(status).decode()
        raise KernelError(f"cublasLt{function} failed{what and f' for {what}'}: {reason}")


@functools.cache
def _library() -> ctypes.CDLL:
    from cuda.pathfinder import load_nvidia_dynamic_lib  # CuPy brings it

    try:
        path = load_nvidia_dynamic_lib("cublasLt").abs_path
    except RuntimeError as error:
        raise DeviceError(
            f'cuBLASLt is not installed: pip install "gpunet[cuda13]" or "gpunet[cuda12]". {error}'
        ) from error
    library = ctypes.CDLL(path)
    library.cublasLtGetStatusString.restype = ctypes.c_char_p
    return library
