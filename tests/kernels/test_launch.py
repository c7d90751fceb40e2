"""`launch` and `Kernel`: what they accept, what they refuse and how they say it; assembling."""

import sys

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend import kernels, rawmodule, signature, sources
from gpunet.backend.kernels import (
    Kernel,
    assemble,
    ceil_div,
    cuda_type,
    empty,
    empty_like,
    launch,
    name_expression,
)
from gpunet.backend.signature import signatures
from gpunet.errors import DeviceError, DTypeError, KernelError
from tests.kernels import cupy_double

SCALARS = """
template <typename T>
__global__ void fill(T* out, T value) { out[threadIdx.x] = value; }

__global__ void mixed(const float* x, float* y, long long n, float a, bool negate, int* count) {
  for (long long i = threadIdx.x; i < n; i += blockDim.x) y[i] = negate ? -a * x[i] : a * x[i];
  if (count && threadIdx.x == 0) *count = 1;
}
"""
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "f2"]
DTYPES = [np.dtype(d) for d in (*DTYPES, ml_dtypes.bfloat16)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels in place of `cuda_kernels/`."""
    (tmp_path / "common.cuh").write_text((sources.kernel_dir() / "common.cuh").read_text())
    monkeypatch.setattr(sources, "kernel_dir", lambda: tmp_path)
    monkeypatch.setattr(kernels, "_kernels", {})
    return tmp_path


# ---- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_scalars_and_arrays_of_every_dtype(dtype):
    out = empty(8, dtype, like=np.zeros(1))
    value = np.ones(1, dtype)[0] if dtype.kind in "bu" else np.full(1, -2, dtype)[0]
    Kernel(SCALARS, "fill", (cuda_type(dtype),))(grid=1, block=8, args=(out, value))
    np.testing.assert_array_equal(out, np.full(8, value))


def run_mixed(*args):
    Kernel(SCALARS, "mixed")(grid=1, block=32, args=args)


def test_python_numbers_and_none():
    x, y, count = np.arange(40, dtype="f4"), np.zeros(40, "f4"), np.zeros(1, "i4")
    run_mixed(x, y, 39, 1.5, True, None)
    np.testing.assert_array_equal(y[:39], -1.5 * x[:39])
    assert y[39] == 0
    run_mixed(x, y, np.int64(40), np.float32(1.5), np.bool_(False), count)
    np.testing.assert_array_equal(y, 1.5 * x)
    assert count[0] == 1


x, y = np.arange(4, dtype="f4"), np.zeros(4, "f4")
read_only = np.zeros(4, "f4")
read_only.flags.writeable = False


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((x, y, 4, 1.0, True), r"takes 6 arguments \(const float\*, float\*, long long, float,"),
        ((x.astype("f2"), y, 4, 1.0, True, None), r"0: .*`const float\*`. .*of float16, shape"),
        ((x, y.astype("f8"), 4, 1.0, True, None), r"argument 1: .*`float\*`. .* of float64"),
        ((x, y[::2], 4, 1.0, True, None), "argument 1: expected a C-contiguous .*non-contiguous"),
        ((x, read_only, 4, 1.0, True, None), "argument 1: .*Received: read-only array"),
        ((x, y, 4.0, 1.0, True, None), r"2: .*scalar for `long long` \(int\). Received: float 4.0"),
        ((x, y, np.int32(4), 1.0, True, None), "argument 2: .*Received: int32"),
        ((x, y, True, 1.0, True, None), "argument 2: .*Received: bool True"),
        ((x, y, 4, 1, True, None), r"argument 3: .*`float` \(float\). Received: int 1"),
        ((x, y, 4, np.float64(1), True, None), "argument 3: .*Received: float64"),
        ((x, y, 4, 1.0, 1, None), "argument 4: .*`bool`"),
        ((x, y, 4, 1.0, True, [1]), r"argument 5: .*`int\*`. Received: list \[1\]"),
        ((x, y, 2**63, 1.0, True, None), "out of range"),
        ((4, 1.0), "at least one argument must be a NumPy or CuPy array"),
    ],
)
def test_refused_arguments(args, message):
    with pytest.raises(KernelError, match=message) as error:
        run_mixed(*args)
    assert str(error.value).startswith("`mixed`")
    assert not y.any()


@pytest.mark.parametrize("shape", [4, (2, 3), (1, 2, 3)])
def test_grids_of_one_to_three_numbers(shape):
    out = np.zeros(1, "i4")
    text = "__global__ void count(int* out) { atomicAdd(out, 1); }"
    Kernel(text, "count")(grid=shape, block=shape, args=(out,))
    assert out[0] == np.prod(shape) ** 2


@pytest.mark.parametrize("grid", [0, (0, 3), (2, 0, 1)])
def test_an_empty_grid_does_nothing(grid):
    Kernel("this is not even C++", "nothing")(grid=grid, block=32, args=(np.zeros(0, "f4"),))


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        (1, 1025, r"`block` is .*Received: block=1025"),
        (1, (32, 64), r"1 to 1024 threads. Received: block=\(32, 64, 1\)"),
        (1, 0, r"1 to 1024 threads"),
        ((1, 70000), 1, r"`grid` is an int or up to three, at most"),
        ((1, 1, 1, 1), 1, "`grid` is an int or up to three"),
        (-1, 1, "grid=-1"),
        (1.5, 1, "grid=1.5"),
    ],
)
def test_refused_shapes(grid, block, message):
    with pytest.raises(KernelError, match=message):
        Kernel(SCALARS, "fill", ("int",))(grid=grid, block=block, args=(np.zeros(1, "i4"),))


def test_results_of_kernels_start_poisoned():
    assert np.isnan(empty((2, 3), ml_dtypes.bfloat16, like=np.zeros(1)).astype("f4")).all()
    like = empty_like(np.zeros((2, 3), "i2"))
    assert like.shape == (2, 3) and (like == -1).all()
    assert empty_like(np.zeros(2, "i2"), "f4").dtype == "f4"


# ---- names --------------------------------------------------------------------------------------


def test_cuda_types_of_all_dtypes_are_the_emulators():
    from gpunet.backend.emulator.loader import _TYPES

    assert {cuda_type(dtype): dtype for dtype in DTYPES} == {t: d for t, (d, _) in _TYPES.items()}
    with pytest.raises(DTypeError, match="complex64"):
        cuda_type("complex64")
    with pytest.raises(DTypeError, match="float32"):
        cuda_type("no such dtype")


def test_name_expressions():
    assert name_expression("k") == "k"
    assert name_expression("k", ("float", 4, False, np.int64(3))) == "k<float, 4, false, 3>"
    for wrong in (np.float32, 1.5, None):
        with pytest.raises(KernelError, match="text, int or bool"):
            name_expression("k", (wrong,))


def test_ceil_div():
    assert [ceil_div(n, 4) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


# ---- source -------------------------------------------------------------------------------------


def test_headers_are_pasted_once_with_line_marks(folder):
    (folder / "a.cuh").write_text('#pragma once\n#include "b.cuh"\nint a;\n')
    (folder / "b.cuh").write_text("  #  pragma once\nint b;\n")
    text = assemble('#include "a.cuh"\n#include "b.cuh"\n#include <cuda_fp16.h>\nint c;', "c.cu")
    expected = """#line 1 "c.cu"
#line 1 "a.cuh"

#line 1 "b.cuh"

int b;
#line 3 "a.cuh"
int a;
#line 2 "c.cu"
#line 3 "c.cu"
#include <cuda_fp16.h>
int c;
"""
    assert text == expected


def test_unknown_files(folder):
    with pytest.raises(KernelError, match=r"c.cu\(2\): no such file .*common.cuh.*file='d.cuh'"):
        assemble('\n#include "d.cuh"', "c.cu")
    with pytest.raises(KernelError, match=r"launch: no such file .*file='none.cu'"):
        launch("none.cu", "k", (), grid=1, block=1, args=(x,))


def test_launch_compiles_once_and_finds_it_again(folder, monkeypatch):
    source = '#include "common.cuh"\n' + SCALARS
    (folder / "scalars.cu").write_text(source)
    compiled = []
    function = kernels.emulator.Function
    monkeypatch.setattr(
        kernels.emulator, "Function", lambda *args: compiled.append(args[1]) or function(*args)
    )
    for template, dtype in [(("int",), "i4"), (("float",), "f4"), (("int",), "i4")]:
        out = np.zeros(4, dtype)
        launch("scalars.cu", "fill", template, grid=1, block=4, args=(out, out.dtype.type(7)))
        assert (out == 7).all()
    assert compiled == ["fill<int>", "fill<float>"]


@pytest.mark.parametrize("place", ["header", "kernel", "expression"])
def test_a_compile_error_names_file_and_line(folder, place):
    (folder / "head.cuh").write_text(
        "#pragma once\n\nint good;\n" + ("int bad = gibberish;\n" if place == "header" else "")
    )
    (folder / "main.cu").write_text(
        '#include "common.cuh"\n#include "head.cuh"\n__global__ void k(float* x) {\n'
        + ("  x[0] = gibberish;\n" if place == "kernel" else "")
        + "}\n"
    )
    name = "gibberish" if place == "expression" else "k"
    where = {"header": "head.cuh:4", "kernel": "main.cu:4", "expression": "gibberish:1"}[place]
    with pytest.raises(KernelError, match=rf"`{name}` does not compile:\n{where}.*gibberish"):
        launch("main.cu", name, (), grid=1, block=1, args=(np.zeros(1, "f4"),))


def test_kernels_of_the_wrong_type_do_not_compile():
    for by_value in ("float2", "dim3"):
        with pytest.raises(KernelError, match="parameters must be pointers and scalars"):
            text = f"__global__ void k(float* x, {by_value} value) {{}}"
            Kernel(text, "k")(grid=1, block=1, args=(x, 1))
    no_atomic = "__global__ void k(long long* x) { atomicAdd(x, 1ll); }"  # nor has CUDA
    with pytest.raises(KernelError, match="atomicAdd"):
        Kernel(no_atomic, "k")(grid=1, block=1, args=(np.zeros(1, "i8"),))


# ---- CuPy, played by a double -------------------------------------------------------------------


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy: see `cupy_double`."""
    fake = cupy_double.make()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(rawmodule, "include_dirs", lambda: ("/cuda/include",))
    return fake


def test_cupy_arrays_run_on_their_gpu(cupy):
    kernel = Kernel(SCALARS, "mixed")
    a, b = cupy.ndarray(x, 1), cupy.ndarray(y, 1)
    for _ in range(2):
        kernel(grid=(2, 3), block=32, args=(a, b, 4, 1.5, True, None), shared=50_000)
    (module,) = cupy.modules  # compiled once
    assert module["name_expressions"] == ("mixed",)
    assert module["options"] == ("-std=c++17", "-I/cuda/include")
    assert module["code"].startswith('#line 1 "source.cu"')
    device, grid, block, args, shared = cupy.calls[1]
    assert (device, grid, block, shared) == (1, (2, 3, 1), (32, 1, 1), 50_000)
    assert args[:2] == (a, b) and args[2:] == (4, np.float32(1.5), True, None)
    assert type(args[3]) is np.float32 and cupy.current == 0
    assert kernel._compiled[1]._kernel.max_dynamic_shared_size_bytes == 50_000
    kernel(grid=1, block=32, args=(cupy.ndarray(x, 0), None, 4, 1.5, True, None))
    assert len(cupy.modules) == 2 and cupy.calls[-1][0] == 0  # one module for each device


def test_bfloat16_scalars_go_to_cupy_as_arrays_of_one_element(cupy):
    value = ml_dtypes.bfloat16(1.5)
    out = cupy.ndarray(x.astype(value.dtype))
    Kernel(SCALARS, "fill", ("__nv_bfloat16",))(grid=1, block=1, args=(out, value))
    sent = cupy.calls[0][3][1]
    assert isinstance(sent, np.ndarray) and sent.shape == () and sent == value


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, x.astype("f2"), r"argument 0: .*CuPy .*`const float\*`. Received: array of float16"),
        (
            1,
            np.zeros((4, 4), "f4")[:, 1],
            "argument 1: .*Received: non-contiguous array",
        ),
        (1, 3, r"argument 1: expected a C-contiguous CuPy array or None for `float\*`. .*int 3"),
        (2, 4.0, r"argument 2: expected a NumPy scalar for `long long` \(int\). .*float 4.0"),
        (2, np.int32(4), "argument 2: .*Received: int32"),
        (3, 1, r"argument 3: .*`float` \(float\). Received: int 1"),
        (3, np.float64(1), "argument 3: .*Received: float64"),
        (4, 1, "argument 4: .*`bool`"),
        (5, [1], r"argument 5: .*`int\*`. Received: list"),
    ],
)
def test_a_gpu_refuses_what_the_emulator_refuses(cupy, position, value, message):
    args = [cupy.ndarray(x), cupy.ndarray(y), 4, 1.5, True, None]
    args[position] = cupy.ndarray(value) if isinstance(value, np.ndarray) else value
    with pytest.raises(KernelError, match=message):
        Kernel(SCALARS, "mixed")(grid=1, block=32, args=args)
    assert cupy.calls == []
    with pytest.raises(KernelError, match=r"`mixed` takes 6 arguments \(const float\*, float\*"):
        Kernel(SCALARS, "mixed")(grid=1, block=32, args=args[:5])


def test_parameters_that_are_not_known_are_not_checked(cupy):
    text = "struct Pair {}; template <typename T> __global__ void k(T* x, const Pair* p, int n) {}"
    pair = cupy.ndarray(np.zeros(3, "V8"))
    Kernel(text, "k", ("float",))(grid=1, block=1, args=(cupy.ndarray(x), pair, np.int32(1)))
    hidden = "#define REST int n, int m\n__global__ void k(float* x, REST) {}"
    Kernel(hidden, "k")(grid=1, block=1, args=(cupy.ndarray(x), np.int32(1), np.int32(1)))
    assert len(cupy.calls) == 2


@pytest.mark.parametrize("shared", [-1, 2.0, True, 227 * 1024 + 1])
def test_shared_memory_that_no_device_has(shared):
    with pytest.raises(KernelError, match=r"`fill<int>`: `shared` is .*at most 232448 .*shared="):
        Kernel(SCALARS, "fill", ("int",))(grid=1, block=1, args=(np.zeros(1, "i4"),), shared=shared)


def test_limits_are_those_of_the_device_and_of_the_kernel(cupy):
    cupy.static_shared, cupy.max_threads, cupy.optin = 1024, 512, 163 * 1024
    kernel = Kernel(SCALARS, "fill", ("float",))
    args = (cupy.ndarray(x), np.float32(1))
    for wanted, asked in [(47 * 1024, 0), (47 * 1024 + 1, 47 * 1024 + 1), (162 * 1024, 162 * 1024)]:
        kernel(grid=1, block=512, args=args, shared=wanted)
        assert kernel._compiled[0]._kernel.max_dynamic_shared_size_bytes == asked
    with pytest.raises(KernelError, match=r"at most 166912 bytes .*static=1024, shared=165889"):
        kernel(grid=1, block=512, args=args, shared=162 * 1024 + 1)
    with pytest.raises(KernelError, match=r"`fill<float>`: .*at most 512 threads .*block=\(1024"):
        kernel(grid=1, block=1024, args=args)
    assert len(cupy.calls) == 3


def test_cupy_refusals(cupy):
    kernel = Kernel(SCALARS.replace("const float* x, float* y", "X* x, Y y"), "mixed")
    with pytest.raises(DeviceError, match=r"must be on one device. Received: 0: numpy, 1:"):
        kernel(grid=1, block=1, args=(x, cupy.ndarray(y)))
    with pytest.raises(DeviceError, match="on one device"):
        kernel(grid=1, block=1, args=(cupy.ndarray(x, 0), cupy.ndarray(y, 1)))
    for wrong in (cupy.ndarray(np.zeros((4, 4))[:, 1]), [1], "text"):
        with pytest.raises(KernelError, match="argument 1: kernels take C-contiguous arrays"):
            kernel(grid=1, block=1, args=(cupy.ndarray(x), wrong, 4, 1.5, True, None))
    with pytest.raises(KernelError, match=r"does not compile:\nmain.cu\(4\): error: gibberish"):
        Kernel("gibberish", "k")(grid=1, block=1, args=(cupy.ndarray(x),))


def test_empty_on_a_gpu(cupy):
    assert isinstance(empty_like(cupy.ndarray(x)), cupy.ndarray)


# ---- signatures, read from the source -----------------------------------------------------------


def test_signatures_are_those_that_the_compiler_finds():
    """The emulator asks the compiler for the types; what is read from the text must be the same."""
    from tests.kernels.instantiations import launched_by_the_cases

    one_of_each = {(file, name.split("<")[0]): name for file, name in launched_by_the_cases()}
    complete = set()
    for (file, kernel), expression in sorted(one_of_each.items()):
        text = assemble(sources.read(file), file)
        template = signature._split(expression.partition("<")[2].rpartition(">")[0])
        types = signatures(text)[kernel].types(tuple(template))
        compiled = kernels.emulator.Function(text, expression).parameters
        if types is not None:
            pairs = zip(types, compiled, strict=True)
            assert all(read in (found, None) for read, found in pairs), expression
        if types is not None and None not in types:
            complete.add(kernel)
    assert len(complete) > 20


def test_signatures_of_odd_but_valid_spellings():
    text = """
    // __global__ void commented(int* x) {}
    #define MADE __global__ void made(int* x) {}
    const char* text = "__global__ void quoted(int* x) {}";
    extern "C" __global__ void __launch_bounds__(256, (1)) plain(
        T const* __restrict__ x, const float *y, float z[], const unsigned n, void** q) {}
    template <class T, typename U = float, int N = 3, template <typename> class Rule>
    static __launch_bounds__(N, 1) __global__ void whole(Acc<T> s, U *const out, half h) {}
    __global__ void declared(long long int n, unsigned long long int m, bool b, Pair<int, T> p);
    #define REST long long n, \\
      float a
    __global__ void shortened(float* y, REST);
    """
    found = signatures(text)
    assert found["shortened"].types(()) == ("float*", "long long", "float")
    assert list(found) == ["plain", "whole", "declared", "shortened"]
    plain = [(p.name, p.type, p.pointer, p.const) for p in found["plain"].parameters]
    assert plain[:2] == [("x", "T", True, True), ("y", "float", True, True)]
    assert plain[2] == ("z", "float", True, False)
    assert plain[3] == ("n", "unsigned", False, True)
    assert found["plain"].types(()) == (None, "const float*", "float*", "unsigned int", None)
    whole = found["whole"]
    assert whole.template[:3] == (("typename", "T"), ("typename", "U"), ("int", "N"))
    assert whole.template[3][1] == "Rule"
    assert whole.types(("double", "int", "4")) == ("double", "int*", "__half")
    assert whole.types(("signed char", "int", "4"))[0] == "long long"
    assert found["declared"].types(()) == ("long long", "unsigned long long", "bool", None)
