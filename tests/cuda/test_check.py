"""`check` finds planted faults, errors point at lines, `bench` makes no figures up."""

import types

import numpy as np
import pytest

import gpunet
from gpunet import cuda, ops
from gpunet.backend import emulator
from gpunet.cuda.bench import Timing
from gpunet.errors import ArgumentError, DeviceError, DTypeError, KernelError

SWISH = r"""
template <typename T>
__global__ void swish(const T* x, T* y, float beta, long long n) {
  GPUNET_LOOP(i, n) {
    const auto v = to_float(x[i]);
    y[i] = from_float<T>(v / (1 + exp(-beta * v)));
  }
}
"""
GRADIENT = r"""
template <typename T>
__global__ void swish_gradient(const T* dy, const T* x, T* dx, float beta, long long n) {
  GPUNET_LOOP(i, n) {
    const auto v = to_float(x[i]), s = 1 / (1 + exp(-beta * v));
    dx[i] = from_float<T>(to_float(dy[i]) * (s + beta * v * s * (1 - s)));
  }
}
"""
REVERSED = """
__global__ void rows_reversed(const float* x, float* y, long long x_dim1) {
  GPUNET_SHARED(float, row);
  for (long long i = threadIdx.x; i < x_dim1; i += blockDim.x) row[i] = x[blockIdx.x * x_dim1 + i];
  __syncthreads();
  for (long long i = threadIdx.x; i < x_dim1; i += blockDim.x)
    y[blockIdx.x * x_dim1 + i] = row[x_dim1 - 1 - i];
}
"""
x = np.linspace(-3, 3, 40, dtype="float32").reshape(5, 8)


def make_swish(source=SWISH):
    @cuda.kernel(source)
    def swish(x, *, beta=1.0):
        return x / (1 + ops.exp(-beta * x))

    return swish


def make_reversed(source=REVERSED):
    return cuda.kernel(
        source,
        threads=lambda x: x.shape[0] * 32,
        block=32,
        shared=lambda x: 4 * x.shape[1],
    )(lambda x: ops.flip(x, axis=1))


def test_a_right_kernel_passes():
    swish = make_swish()
    swish.gradient_kernel(GRADIENT)
    report = swish.check(x, beta=1.5)
    assert report.ok and report.failures == [] and report.device == "emulator"
    checks = [row.check for row in report.rows]
    for check in ("kernel", "strided input", "inputs unchanged", "length 8 -> 33", "length 5 -> 0"):
        assert check in checks
    assert [row.dtype for row in report.rows[:3]] == ["float32", "float16", "bfloat16"]
    assert [row.dtype for row in report.rows if row.check == "gradient kernel"] == [
        *("float32", "float16", "bfloat16")
    ]
    assert all(row.error is None or row.error < 0.1 for row in report.rows)
    swish.assert_ok(x)
    swish.backward.assert_ok(x, x, x)
    make_reversed().assert_ok(x)


def test_the_table_can_be_read():
    text = repr(make_swish(SWISH.replace("1 + exp", "2 + exp")).check(x))
    assert "swish on emulator, against its reference in float64" in text
    for word in ("check", "dtype", "largest error", "float16", "FAILED", "(5,8)", "length 8 -> 33"):
        assert word in text
    assert "kernel, float32, (5,8):\ny: Not equal to tolerance" in text


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [
        ("1 + exp", "1.01f + exp", "kernel"),
        ("to_float(x[i])", "float(int(to_float(x[i]) * 256)) / 256", "kernel"),
        ("GPUNET_LOOP(i, n)", "GPUNET_LOOP(i, n - 1)", "kernel"),
        ("GPUNET_LOOP(i, n)", "GPUNET_LOOP(i, n > 1000 ? 1000 : n)", "length 8 -> 1025"),
        ("GPUNET_LOOP(i, n)", "GPUNET_LOOP(i, n / 32 * 32 + (n > 33 ? n % 32 : 0))", None),
        ("y[i] =", "const_cast<T*>(x)[i] = T(0.f); y[i] =", "inputs unchanged"),
        ("y[i] =", "y[n - 1 - i] =", "kernel"),
        ("y[i] =", "if (threadIdx.x == 5) __trap(); y[i] =", "kernel"),
    ],
)
def test_planted_faults_are_found(old, new, failing):
    assert SWISH.count(old) == 1
    report = make_swish(SWISH.replace(old, new)).check(x)
    assert not report.ok
    if failing:
        assert failing in [row.check for row in report.failures]
    with pytest.raises(AssertionError, match="FAILED"):
        make_swish(SWISH.replace(old, new)).assert_ok(x)


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [
        ("  __syncthreads();\n", "", "3 orders of threads"),
        ("row[x_dim1 - 1 - i]", "row[x_dim1 - 1 - i % 8]", "length 8 -> 33"),
    ],
)
def test_planted_races_and_strides_are_found(old, new, failing):
    assert REVERSED.count(old) == 1
    report = make_reversed(REVERSED.replace(old, new)).check(x)
    assert failing in [row.check for row in report.failures]
    assert "largest error" in repr(report)


@pytest.mark.parametrize("how", ["ops", "kernel"])
def test_wrong_gradients_are_found(how):
    swish = make_swish()
    if how == "ops":
        swish.gradient(lambda dy, x, beta: dy * ops.sigmoid(beta * x))
    else:
        swish.gradient_kernel(GRADIENT.replace("(1 - s)", "(1 + s)"))
    failed = {row.check for row in swish.check(x).failures}
    assert failed == {"ops": {"gradients, by differences"}, "kernel": {"gradient kernel"}}[how]


def test_dtypes_and_shapes_that_do_not_apply_are_shown_as_such():
    source = """
    __global__ void k(const float* x, float* y, long long n) { GPUNET_LOOP(i, n) y[i] = x[i]; }
    """
    fixed = cuda.kernel(source)(lambda x: ops.reshape(x, (5, 8)) * 1)
    report = fixed.check(x)
    results = {(row.check, row.dtype): row.result for row in report.rows}
    assert results["kernel", "float16"] == results["kernel", "bfloat16"] == "not taken"
    assert results["length 8 -> 33", "float32"] == "refused by the reference"
    assert report.ok
    with pytest.raises(DTypeError, match="takes float32"):
        fixed.check(x.astype("f2"))


def test_integers_are_checked_in_their_own_dtype():
    twice = cuda.elementwise("T x", "T y", "y = 2 * x", lambda x: 2 * x)
    report = twice.check(np.arange(6, dtype="int32"))
    assert report.ok and {row.dtype for row in report.rows} == {""}
    wrong = cuda.elementwise("T x", "T y", "y = 2 * x + (x == 3)", lambda x: 2 * x)
    assert not wrong.check(np.arange(6, dtype="int32")).ok


def test_where_it_checks(monkeypatch):
    swish = make_swish()
    assert swish.check(x, device="emulator").ok
    with pytest.raises(DeviceError, match=r"one of \('cuda', 'emulator'\). Received: device='cpu'"):
        swish.check(x, device="cpu")
    monkeypatch.setattr(emulator, "available", lambda: (False, "no compiler"))
    with pytest.raises(DeviceError, match=r"There is no GPU: .* The emulator: no compiler"):
        swish.check(x)
    with pytest.raises(DeviceError, match="There is no GPU"):
        cuda.extern(lambda x, y: None)(lambda x: x).check(x)


# ---- compiling ----------------------------------------------------------------------------------


def test_compiling_for_a_gpu_without_one():
    for dtype in ("float32", "float16", "bfloat16"):
        cubin = make_swish().compile(dtype, "sm_80")
        assert 0 < cubin.registers < 64 and cubin.spills == 0
        assert list(cubin.kernels) == [f"swish<{cuda_name(dtype)}>"]


def cuda_name(dtype):
    return {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}[dtype]


@pytest.mark.parametrize("where", ["emulator", "nvrtc"])
def test_compile_errors_point_into_the_source(where):
    broken = make_swish(SWISH.replace("to_float(x[i])", "gibberish(x[i])"))
    pattern = {"emulator": r"swish.cu:5:.*gibberish", "nvrtc": r'swish.cu\(5\).*"gibberish"'}[where]
    with pytest.raises(KernelError, match=pattern):
        if where == "nvrtc":
            broken.compile()
        else:
            broken(gpunet.tensor(x, device="cpu").to("emulator"))
    expression = cuda.elementwise("T x", "T y", "y = x;\ny += gibberish", lambda x: x, name="add")
    pattern = {"emulator": r"add.cu:2:.*gibberish", "nvrtc": r'add.cu\(2\).*"gibberish"'}[where]
    with pytest.raises(KernelError, match=pattern):
        if where == "nvrtc":
            expression.compile()
        else:
            expression(gpunet.tensor(x, device="cpu").to("emulator"))


def test_the_source_is_what_compilers_get():
    source = make_swish().source
    assert "block_reduce" in source and "#define GPUNET_LOOP" in source
    assert source.endswith('#line 1 "swish.cu"\n' + SWISH)
    with_header = make_swish('#include "common.cuh"\n' + SWISH).source
    assert with_header.count("struct Accumulate {") == 1
    assert with_header.endswith('#line 1 "swish.cu"\n#line 2 "swish.cu"\n' + SWISH)


# ---- timing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_there_is_nothing_to_time_without_a_gpu(device):
    with pytest.raises(DeviceError, match=f"gpunet makes no figures up. Received: device={device}"):
        make_swish().bench(gpunet.tensor(x, device="cpu").to(device))


def test_a_timing_says_what_was_measured():
    timing = Timing("swish", "A GPU", 10.0, 4_000_000, 9.0)
    assert (timing.gigabytes_per_second, timing.share_of_copy) == (400.0, 0.9)
    assert repr(timing) == "swish on A GPU: 10.0 us, 400 GB/s, 90% of a copy"


def test_the_median_is_that_of_the_events():
    clock, times = types.SimpleNamespace(now=0.0), iter([9.0] * 3 + [1.0, 5.0, 2.0, 3.0] * 5)

    class Event:
        def record(self):
            self.at = clock.now

        def synchronize(self):
            pass

    def work():
        clock.now += next(times)

    def fill(value):
        clock.now += 100

    cupy = types.SimpleNamespace(
        empty=lambda n, dtype: types.SimpleNamespace(fill=fill),
        cuda=types.SimpleNamespace(Event=Event, get_elapsed_time=lambda a, b: (b.at - a.at) / 1e3),
    )
    from gpunet.cuda.bench import _median

    assert _median(cupy, work) == pytest.approx(2.5)


@pytest.mark.cuda
def test_on_a_gpu():
    swish = make_swish()
    swish.gradient_kernel(GRADIENT)
    assert swish.check(x).device == "cuda:0"
    swish.assert_ok(x)
    big = ops.ones((1 << 20,)).to("cuda:0")
    timing = swish.bench(big)
    assert 0 < timing.share_of_copy < 1.5
    with pytest.raises(ArgumentError):
        swish.bench(big, gamma=1.0)
