"""Kernels of users: names are matched early, all devices agree, gradients come in three ways."""

import copy
import sys

import ml_dtypes
import numpy as np
import pytest

import gpunet
from gpunet import cuda, ops
from gpunet.backend import rawmodule
from gpunet.core.primitive import REGISTRY
from gpunet.errors import ArgumentError, DeviceError, DTypeError, KernelError, ShapeError
from gpunet.testing import check_gradients
from tests.kernels import cupy_double

SWISH = r"""
template <typename T>
__global__ void swish(const T* x, T* y, float beta, long long n) {
  GPUNET_LOOP(i, n) {
    const auto v = to_float(x[i]);
    y[i] = from_float<T>(v / (1 + exp(-beta * v)));
  }
}
"""
SWISH_GRADIENT = r"""
template <typename T>
__global__ void swish_gradient(const T* dy, const T* x, T* dx, float beta, long long n) {
  GPUNET_LOOP(i, n) {
    const auto v = to_float(x[i]), s = 1 / (1 + exp(-beta * v));
    dx[i] = from_float<T>(to_float(dy[i]) * (s + beta * v * s * (1 - s)));
  }
}
"""
SCALE_SHIFT = """
__global__ void scale_shift(const float* x, const float* w, float* y, float* z, long long n) {
  GPUNET_LOOP(i, n) { y[i] = x[i] * w[i]; z[i] = x[i] + w[i]; }
}
"""


def make_swish(**options):
    @cuda.kernel(SWISH, **options)
    def swish(x, *, beta=1.0):
        """Returns x times the sigmoid of beta x."""
        return x / (1 + ops.exp(-beta * x))

    return swish


def make_scale_shift():
    @cuda.kernel(SCALE_SHIFT)
    def scale_shift(x, w):
        return x * w, x + w

    return scale_shift


def on(device, x):
    return gpunet.tensor(x, device="cpu").to(device)


x32 = np.linspace(-3, 3, 12, dtype="float32").reshape(3, 4)


# ---- calling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16])
def test_all_devices_agree(dtype):
    swish = make_swish()
    x = x32.astype(dtype)
    reference = swish(on("cpu", x), beta=1.5)
    found = swish(on("emulator", x), beta=1.5)
    assert (found.device.name, found.dtype, found.shape) == ("emulator", x.dtype, (3, 4))
    tolerance = 4 * float(ml_dtypes.finfo(x.dtype).eps)
    np.testing.assert_allclose(
        found.numpy().astype("f8"), reference.numpy().astype("f8"), rtol=tolerance, atol=tolerance
    )


def test_it_is_called_like_the_function():
    swish = make_swish()
    assert repr(swish) == "<CustomKernel swish(x, *, beta=1.0)>"
    assert swish.__doc__ == "Returns x times the sigmoid of beta x."
    for call in (
        swish([0.5], beta=2),
        swish(x=[0.5], beta=2.0),
        swish(gpunet.Variable([0.5]), beta=2),
    ):
        np.testing.assert_allclose(call.numpy(), 0.5 / (1 + np.exp(-1.0)), rtol=1e-6)
    for wrong, message in [
        (lambda: swish(), "missing a required argument: 'x'"),
        (lambda: swish(1.0, 2.0), "too many positional"),
        (lambda: swish(1.0, gamma=2.0), "unexpected keyword argument 'gamma'"),
        (lambda: swish(1.0, beta=np.ones(3)), "attribute `beta` must be a number"),
        (lambda: swish(gpunet.KerasTensor((None, 3))), r"`layers.Kernel\(swish\)\(x\)`"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            wrong()


def test_it_stays_out_of_gpunets_registry_and_may_be_defined_again():
    before = set(REGISTRY)
    first, second = make_swish(), make_swish()
    assert first.primitive is not second.primitive
    assert first.primitive.name != second.primitive.name
    assert set(REGISTRY) == before


def test_several_results_come_in_the_order_of_the_kernel():
    scale_shift = make_scale_shift()
    assert scale_shift.outputs == ("y", "z")
    for device in ("cpu", "emulator"):
        y, z = scale_shift(on(device, x32), on(device, 2 * x32))
        np.testing.assert_allclose(y.numpy(), 2 * x32 * x32, rtol=1e-6)
        np.testing.assert_allclose(z.numpy(), 3 * x32, rtol=1e-6)


def test_strided_empty_and_scalar_inputs():
    swish = make_swish()
    wide = on("emulator", np.repeat(x32, 2, axis=1)[:, ::2])
    np.testing.assert_array_equal(swish(wide), swish(on("emulator", x32)))
    transposed = ops.transpose(on("emulator", x32))
    np.testing.assert_array_equal(swish(transposed), swish(on("emulator", x32)).numpy().T)
    assert swish(on("emulator", np.zeros((0, 3), "f4"))).shape == (0, 3)
    assert swish(on("emulator", np.float32(0.5))).shape == ()


def test_tensors_of_other_devices_are_refused():
    with pytest.raises(DeviceError, match="scale_shift: all tensors must be on one device"):
        make_scale_shift()(on("cpu", x32), on("emulator", x32))


# ---- what goes where ----------------------------------------------------------------------------


def define(source, function=lambda x, *, beta=1.0: x, **options):
    return cuda.kernel(source, **options)(function)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("const T* z, T* y, float beta", r"`const T\* z` matches no input.*inputs \['x'\]"),
        ("T* x, float beta", r"`x` is an input, and inputs do not change: declare it `const T\*`"),
        ("const T* x, T* y, float gamma", r"`float gamma` matches no attribute.*\['beta'\].*'n'"),
        ("const T* x, T* y, float beta, int x_axes", "`int x_axes` matches no attribute"),
        ("const T* x, T* y, float beta, int x_dim", "`int x_dim` matches no attribute"),
        ("const T* x, T* y, float beta, int w_size", "`int w_size` matches no attribute"),
        ("const T* x, T* y, float beta, float x_size", "declare it `long long` or `int`"),
        ("const T* x, T* y", r"takes \['beta'\], which no parameter"),
        ("T* y, float beta", r"takes \['x'\], which no parameter"),
        ("const T* x, float beta", r"writes nothing: its results are the pointers"),
        ("const T* x, float4* y, float beta", r"`float4\* y` has a type that Python cannot give"),
        ("const T* x, T** y, float beta", "has a type that Python cannot give"),
        ("const T* x, T& y, float beta", "has a type that Python cannot give"),
        ("const T* x, T* y, size_t beta", "`size_t beta` has a type that"),
    ],
)
def test_names_that_do_not_match_are_refused_when_it_is_declared(parameters, message):
    with pytest.raises(KernelError, match=message) as error:
        define(f"template <typename T> __global__ void k({parameters}) {{}}")
    assert str(error.value).startswith("k")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("void k(const float* x, float* y) {}", {}, "`source` must be CUDA C|No such .cu file"),
        ("missing.cu", {}, r"No such .cu file. .*path='missing.cu'"),
        (3, {}, "`source` must be CUDA C"),
        (SWISH + SCALE_SHIFT, {}, r"one of \['scale_shift', 'swish'\]"),
        (SWISH, {"entry": "swush"}, "entry='swush'"),
        (SWISH, {"block": 0}, "a block has 1 to 1024 threads. Received: block=0"),
        (SWISH, {"block": (64, 32)}, "a block has 1 to 1024 threads"),
        (SWISH, {"threads": lambda z: 1}, r"functions of the kernel's arguments.*\['z'\]"),
        (SWISH.replace("T>", "T, typename U>", 1), {}, "tells what `typename U` is"),
        (SWISH.replace("T>", "T, int SIZE>", 1), {}, "`int SIZE` must be BLOCK"),
    ],
)
def test_sources_and_settings_that_are_refused(source, options, message):
    with pytest.raises(KernelError, match=message):
        define(source, **options)


def test_functions_that_are_refused():
    with pytest.raises(ArgumentError, match=r"names each of its arguments. .*'xs'"):
        define(SWISH, lambda *xs, beta: xs[0])
    with pytest.raises(ArgumentError, match="needs at least one tensor"):
        define("__global__ void k(float* y, float beta) {}", lambda *, beta: beta)
    two = define(SWISH, lambda x, *, beta=1.0: (x, x))
    with pytest.raises(ArgumentError, match=r"one tensor for each result.*\['y'\]. Received: 2"):
        two(x32)


def test_dtypes_that_the_kernel_does_not_take_are_refused_on_the_cpu_too():
    with pytest.raises(DTypeError, match=r"`const float\* w` takes float32.*w of float16"):
        make_scale_shift()(x32, x32.astype("f2"))
    both = define(
        "template <typename T> __global__ void k(const T* x, const T* w, T* y) {}",
        lambda x, w: x * w,
    )
    with pytest.raises(DTypeError, match=r"`const T\* w` takes float16 \(as T is __half\)"):
        both(x32.astype("f2"), x32)
    wrong = define("__global__ void k(const float* x, int* y) {}", lambda x: x)
    with pytest.raises(DTypeError, match=r"`int\* y` takes int32; cast the result"):
        wrong(x32)
    counting = define(SWISH.replace("float beta", "int beta"))
    for value in (1.5, True, 2**31, "text"):
        with pytest.raises(DTypeError, match="`int beta` takes a number that fits int32"):
            counting(on("emulator", x32), beta=value)
    flag = define(SWISH.replace("float beta", "bool beta"))
    with pytest.raises(DTypeError, match="`bool beta` takes a bool"):
        flag(on("emulator", x32), beta=1)


def test_numbers_and_template_arguments():
    source = """
    template <typename T, typename U, int BLOCK, bool twice>
    __global__ void facts(const T* x, const U* w, long long* y, int x_ndim, long long x_dim1,
                          unsigned w_size, int y_dim0, long long n, int x_stride0, int add) {
      if (threadIdx.x == 0 && blockIdx.x == 0) {
        const long long facts[] = {x_ndim, x_dim1, w_size, y_dim0, n, x_stride0, add, BLOCK,
                                   twice, sizeof(T), sizeof(U), blockDim.x, gridDim.x};
        for (int i = 0; i < 13; ++i) y[i] = facts[i];
      }
    }"""

    facts = cuda.kernel(source, block=64, threads=lambda x, w: x.shape[0] * w.size * 10, init=7)(
        lambda x, w, *, add=5, twice=True: ops.cast(ops.zeros((15,)) + 0 * x[0, 0], "int64")
    )
    y = facts(on("emulator", x32), on("emulator", np.ones(6, "f2")), add=-3)
    assert y.tolist() == [2, 4, 6, 15, 15, 4, -3, 64, 1, 4, 2, 64, 3, 7, 7]
    one_axis = define("__global__ void k(const float* x, float* y, int x_dim1) {}", lambda x: x)
    with pytest.raises(ShapeError, match=r"`x_dim1` needs an axis 1 of `x`. .*shape=\(3,\)"):
        one_axis(on("emulator", np.ones(3, "f4")))


def test_a_grid_of_rows_with_shared_memory():
    source = """
    __global__ void row_sums(const float* x, float* y, long long x_dim1) {
      GPUNET_SHARED(float, partial);
      float sum = 0;
      for (long long i = threadIdx.x; i < x_dim1; i += blockDim.x)
        sum += x[blockIdx.x * x_dim1 + i];
      partial[threadIdx.x] = sum;
      __syncthreads();
      if (threadIdx.x == 0) {
        for (int i = 1; i < blockDim.x; ++i) partial[0] += partial[i];
        y[blockIdx.x] = partial[0];
      }
    }"""
    row_sums = cuda.kernel(source, threads=lambda x: x.shape[0] * 32, block=32, shared=32 * 4)(
        lambda x: ops.sum(x, axis=1)
    )
    np.testing.assert_allclose(row_sums(on("emulator", x32)).numpy(), x32.sum(axis=1), atol=1e-6)
    with_function = cuda.kernel(
        source, threads=lambda x: x.shape[0] * 32, block=32, shared=lambda x: x.shape[1] * 2**17
    )(lambda x: ops.sum(x, axis=1))
    with pytest.raises(KernelError, match=r"`row_sums`: `shared` .*at most 232448 .*shared=524288"):
        with_function(on("emulator", x32))


def test_grids_of_two_axes():
    source = """
    __global__ void transpose(const float* x, float* y, long long x_dim0, long long x_dim1) {
      const long long j = blockIdx.x * blockDim.x + threadIdx.x;
      const long long i = blockIdx.y * blockDim.y + threadIdx.y;
      if (i < x_dim0 && j < x_dim1) y[j * x_dim0 + i] = x[i * x_dim1 + j];
    }"""
    transpose = cuda.kernel(source, threads=lambda x: (x.shape[1], x.shape[0]), block=(8, 4))(
        lambda x: ops.transpose(x)
    )
    x = np.arange(9 * 17, dtype="f4").reshape(9, 17)
    np.testing.assert_array_equal(transpose(on("emulator", x)), x.T)


def test_strided_arrays_reach_the_kernel_where_it_asks_for_them():
    source = """
    __global__ void columns(const float* x, float* y, long long x_dim0, long long x_dim1,
                            long long x_stride0, long long x_stride1) {
      GPUNET_LOOP(i, x_dim0 * x_dim1)
        y[i] = x[i / x_dim1 * x_stride0 + i % x_dim1 * x_stride1];
    }"""
    columns = cuda.kernel(source, contiguous=False)(lambda x: x * 1)
    base = on("emulator", np.arange(60, dtype="f4").reshape(6, 10))
    for view in (base, base[::2, 1::3], base[::-1], ops.transpose(base), base[:, 3:3]):
        np.testing.assert_array_equal(columns(view), view.numpy())


def test_a_file_is_found_beside_the_function(tmp_path, monkeypatch):
    (tmp_path / "swish.cu").write_text('#include "common.cuh"\n' + SWISH)
    monkeypatch.chdir(tmp_path)
    for source in ("swish.cu", tmp_path / "swish.cu"):
        swish = cuda.kernel(source, entry="swish")(
            lambda x, *, beta=1.0: x / (1 + ops.exp(-beta * x))
        )
        assert swish.__name__ == "swish"
        np.testing.assert_array_equal(swish(on("emulator", x32)), make_swish()(on("emulator", x32)))
    (tmp_path / "module.py").write_text(
        "import gpunet\n"
        "@gpunet.cuda.kernel('beside.cu')\n"
        "def swish(x, *, beta=1.0):\n"
        "    return x\n"
    )
    (tmp_path / "beside.cu").write_text(SWISH)
    monkeypatch.chdir("/")
    monkeypatch.syspath_prepend(tmp_path)
    import module

    assert module.swish.launcher.file == "beside.cu"


# ---- gradients ----------------------------------------------------------------------------------


def gradients(kernel, *inputs, **attributes):
    def total(*xs):
        ys = kernel(*xs, **attributes)
        ys = ys if isinstance(ys, tuple) else (ys,)
        return sum((y * y).sum() for y in ys)

    found = gpunet.grad(total, argnums=tuple(range(len(inputs))))(*inputs)
    return [g.numpy() for g in found]


@pytest.mark.parametrize("level", ["reference", "ops", "kernel", "kernel over ops"])
@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_gradients_in_all_three_ways(level, device):
    swish = make_swish()
    calls = []
    if level == "kernel":
        assert swish.gradient_kernel(SWISH_GRADIENT).__self__ is swish
    elif level != "reference":

        def by_hand(dy, x, beta):
            calls.append(beta)
            s = ops.sigmoid(beta * x)
            return dy * (s + beta * x * s * (1 - s))

        if level == "ops":
            assert swish.gradient(by_hand) is by_hand
        else:
            swish.gradient_kernel(SWISH_GRADIENT)(by_hand)
    found = gradients(swish, on(device, x32), beta=1.5)[0]
    expected = gradients(lambda x: x / (1 + ops.exp(-1.5 * x)), gpunet.tensor(x32))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    launched = device == "emulator" and "kernel" in level
    assert bool(calls) == (level == "ops" or (level == "kernel over ops" and not launched))
    check_gradients(lambda x: swish(x, beta=1.5), [x32])
    if level != "reference":
        second = gpunet.grad(lambda x: gpunet.grad(lambda z: swish(z).sum())(x).sum())
        reference = gpunet.grad(
            lambda x: gpunet.grad(lambda z: (z / (1 + ops.exp(-z))).sum())(x).sum()
        )
        np.testing.assert_allclose(
            second(on(device, x32)).numpy(),
            reference(gpunet.tensor(x32)).numpy(),
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_gradient_by_hand_is_used_and_keeps_only_what_it_names():
    scale_shift = make_scale_shift()

    @scale_shift.gradient
    def _(dy, dz, x):
        return 2 * dy + 0 * x, 3 * dz

    assert scale_shift.primitive.keeps == [("value", 0)]
    dx, dw = gradients(scale_shift, gpunet.tensor(x32), gpunet.tensor(np.ones_like(x32)))
    np.testing.assert_allclose(dx, 2 * 2 * x32, rtol=1e-6)  # the gradient of y*y is 2y, y = x
    np.testing.assert_allclose(dw, 3 * 2 * (x32 + 1), rtol=1e-6)


def test_what_a_gradient_kernel_leaves_out_the_reference_gives():
    source = """
    __global__ void half_gradient(const float* dy, const float* dz, const float* w, float* dx,
                                  long long n) {
      GPUNET_LOOP(i, n) dx[i] = dy[i] * w[i] + dz[i];
    }"""
    scale_shift = make_scale_shift()
    w = (x32 + 2).astype("f4")
    expected = gradients(scale_shift, gpunet.tensor(x32), gpunet.tensor(w))
    scale_shift.gradient_kernel(source)
    assert scale_shift.backward.outputs == ("dx",)
    for device in ("cpu", "emulator"):
        found = gradients(scale_shift, on(device, x32), on(device, w))
        for g, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(g, reference, rtol=1e-5)


def test_gradients_come_by_name_whatever_the_order_of_the_kernel():
    source = """
    __global__ void both(const float* dy, const float* dz, const float* x, const float* w,
                         float* dw, float* dx, long long n) {
      GPUNET_LOOP(i, n) { dx[i] = dy[i] * w[i] + dz[i]; dw[i] = dy[i] * x[i] + dz[i]; }
    }"""
    scale_shift = make_scale_shift()
    w = (x32 + 2).astype("f4")
    expected = gradients(scale_shift, gpunet.tensor(x32), gpunet.tensor(w))
    scale_shift.gradient_kernel(source)
    for device in ("cpu", "emulator"):
        found = gradients(scale_shift, on(device, x32), on(device, w))
        for g, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(g, reference, rtol=1e-5)
    scale_shift.assert_ok(x32, w)


def test_gradients_that_match_nothing():
    swish = make_swish()
    with pytest.raises(ArgumentError, match=r"must be among \['dy', 'x', 'y', 'beta'\].*\['dz'\]"):
        swish.gradient(lambda dz, x: dz)
    with pytest.raises(KernelError, match=r"`T\* dw` matches no result.*\['dx'\]"):
        swish.gradient_kernel(SWISH_GRADIENT.replace("dx", "dw"))
    with pytest.raises(KernelError, match=r"`const T\* dz` matches no input"):
        swish.gradient_kernel(SWISH_GRADIENT.replace("T* dy", "T* dz"))
    assert swish.backward is None


def test_integer_inputs_have_no_gradients():
    source = """
    template <typename T>
    __global__ void pick(const T* x, const int* index, T* y, long long n) {
      GPUNET_LOOP(i, n) y[i] = x[index[i]];
    }"""
    pick = cuda.kernel(source)(lambda x, index: ops.take(x, index))
    index = np.array([2, 0, 2], "int32")
    for device in ("cpu", "emulator"):
        x, i = on(device, np.arange(4, dtype="f4")), on(device, index)
        assert gpunet.grad(lambda x, i: pick(x, i).sum())(x, i).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_a_traced_kernel_computes_the_same(device):
    swish = make_swish()
    swish.gradient_kernel(SWISH_GRADIENT)

    def step(x):
        y = swish(x, beta=2.0)
        return y, gpunet.grad(lambda z: swish(z, beta=2.0).sum())(x)

    x = on(device, x32)
    graph = gpunet.trace(step, x)
    assert "swish" in str(graph) and "swish_gradient" in str(graph) and "exp" not in str(graph)
    for replayed, eager in zip(graph(x), step(x), strict=True):
        np.testing.assert_array_equal(replayed, eager)


# ---- the other doors ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (), (1, 4), (1,), (3, 1), (3, 4)])
def test_elementwise_repeats_its_inputs(shape):
    fused = cuda.elementwise(
        "T x, T w, float beta, int times",
        "T y, float z",
        "y = beta * x * w; z = times * x",
        lambda x, w, *, beta=2.0, times=3: (beta * x * w, ops.cast(times * x, "float32") + 0 * w),
        name="fused",
    )
    w = np.linspace(1, 2, int(np.prod(shape)), dtype="f4").reshape(shape)
    y, z = fused(on("emulator", x32), on("emulator", w), beta=1.5)
    np.testing.assert_allclose(y.numpy(), 1.5 * x32 * w, rtol=1e-6)
    np.testing.assert_allclose(z.numpy(), 3 * x32, rtol=1e-6)


def test_elementwise_as_a_decorator_and_its_mistakes():
    @cuda.elementwise("T x", "T y", "y = -x")
    def negate(x):
        return -x

    assert negate.__name__ == "negate"
    np.testing.assert_array_equal(negate(on("emulator", np.arange(3))), [0, -1, -2])
    with pytest.raises(KernelError, match=r"declarations such as `T x, float beta`.*text='x'"):
        cuda.elementwise("x", "T y", "y = x", lambda x: x)
    with pytest.raises(KernelError, match=r"takes \['w'\], which no parameter"):
        cuda.elementwise("T x", "T y", "y = x", lambda x, w: x)


def fill_with_double(x, y, scale, n):
    assert n == y.size
    np.multiply(x, scale, out=y)


def test_a_callable_of_another_library():
    taken = []

    @cuda.extern(fill_with_double, devices=("emulator",), convert=lambda a: taken.append(1) or a)
    def scaled(x, *, scale=2.0):
        return x * scale

    scaled.gradient_kernel(
        lambda dy, dx, scale: np.multiply(dy, scale, out=dx), devices=("emulator",)
    )
    for device, calls in (("cpu", 0), ("emulator", 2)):
        np.testing.assert_array_equal(scaled(on(device, x32), scale=3.0), 3 * x32)
        assert len(taken) == calls
        (dx,) = gradients(scaled, on(device, x32), scale=3.0)
        np.testing.assert_allclose(dx, 18 * x32, rtol=1e-6)
        taken.clear()
    assert scaled.check(x32).ok
    assert "np.multiply" in scaled.source
    with pytest.raises(
        ArgumentError, match="wraps a callable, which compiles its kernel by itself"
    ):
        scaled.compile()


def test_a_callable_that_returns_its_result_or_runs_nowhere_here():
    returning = cuda.extern(lambda x: x * 2, devices=("emulator",))(lambda x: x * 2)
    np.testing.assert_array_equal(returning(on("emulator", x32)), 2 * x32)
    wrong = cuda.extern(lambda x: x[:1], devices=("emulator",))(lambda x: x * 2)
    with pytest.raises(ShapeError, match="must return what the reference does"):
        wrong(on("emulator", x32))
    elsewhere = cuda.extern(lambda x: 1 / 0)(lambda x: x * 2)
    np.testing.assert_array_equal(elsewhere(on("emulator", x32)), 2 * x32)
    with pytest.raises(KernelError, match=r"takes \['w'\], which no parameter of the callable"):
        cuda.extern(lambda x, y: None)(lambda x, w: x * w)


# ---- on a GPU, played by a double ---------------------------------------------------------------


@pytest.fixture
def cupy(monkeypatch):
    fake = cupy_double.make()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(rawmodule, "include_dirs", lambda: ("/cuda/include",))
    return fake


def test_the_launch_on_a_gpu(cupy):
    swish = make_swish(block=128, init=0.0)
    x = cupy.ndarray(np.zeros((300, 3), "f2"))
    y = swish._launch(x, beta=2)
    ((_, grid, block, args, shared),) = cupy.calls
    assert (grid, block, shared) == ((8, 1, 1), (128, 1, 1), 0)
    assert args[0] is x and args[1] is y and args[2:] == (np.float32(2.0), np.int64(900))
    assert not y.array.any() and y.dtype == np.float16
    (module,) = cupy.modules
    assert module["name_expressions"] == ("swish<__half>",)
    assert module["code"] == swish.source


def test_compiled_graphs_tell_kernels_of_one_name_apart():
    plus = cuda.elementwise("T x", "T y", "y = x + 1", lambda x: x + 1, name="add")
    minus = cuda.elementwise("T x", "T y", "y = x - 1", lambda x: x - 1, name="add")
    a = cuda.elementwise("T x", "T y", "y = 2 * x", lambda x: 2 * x, name="a")
    step = gpunet.function(lambda x: a(plus(x)) + minus(x))
    for device in ("cpu", "emulator"):
        x = on(device, x32)
        np.testing.assert_allclose(step(x).numpy(), 3 * x32 + 1, rtol=1e-6)


def test_gpunets_own_kernels_can_be_bound():
    @cuda.kernel("random.cu", entry="random_uniform", block=128)
    def uniform(seed):
        return ops.zeros((7,))

    assert (uniform.launcher.file, uniform.outputs) == ("random.cu", ("y",))
    seed = on("emulator", np.arange(4, dtype="uint32"))
    found = uniform(seed)
    assert ((found.numpy() >= 0) & (found.numpy() < 1)).all()
    assert len(set(found.tolist())) == 7
    assert copy.deepcopy(uniform) is uniform
