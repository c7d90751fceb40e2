"""Fusion: random graphs give the same bits fused, on NumPy and on the emulator; C++ nearly so."""

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.backend import native
from gpunet.backend.device import Device
from gpunet.backend.kernels import assemble
from gpunet.compile import emit_cpp, emit_cuda, tiles
from gpunet.compile.chain import Chain, Step, is_elementwise, value_dtypes
from gpunet.compile.cost import equation_cost
from gpunet.compile.executable import Executable
from gpunet.compile.fused import Fused
from gpunet.compile.fusion import fuse_elementwise, unfused
from gpunet.compile.program import Program
from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor
from gpunet.core.trace import trace
from gpunet.dtypes import BFLOAT16
from gpunet.testing import ops as checks
from gpunet.testing.numbers import assert_close
from tests.compile.test_cpu_kernels import operand
from tests.kernels.test_nvrtc import check as check_machine_code
from tests.ops.cases import CASES

ALWAYS = {"worth": lambda equations: True}

# -- random graphs --------------------------------------------------------------------------------

EXACT = (ops.square, ops.negative, ops.relu, ops.floor, ops.absolute)
UNARY = (*EXACT, ops.tanh, ops.sigmoid, ops.silu)
BINARY = (ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum)
SHAPES = ((6, 4, 10), (4, 10), (10,), (6, 1, 10), (4, 1), (1,), ())


def random_function(rng, dtype, operations, unary=UNARY):
    """A random mixture of elementwise ops and others, and random inputs for it."""
    shapes = [SHAPES[0], *[SHAPES[i] for i in rng.integers(0, len(SHAPES), 3)]]
    inputs = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    choices = rng.integers(0, 1 << 30, (operations, 4))
    returned = rng.integers(0, operations, 3)

    def f(*xs):
        values, made = list(xs), []
        for kind, a, b, c in choices:
            x, y, z = (values[i % len(values)] for i in (a, b, c))
            made.append(_apply(kind, x, y, z, unary))
            values.append(made[-1])
        return [made[i] for i in returned]

    return f, inputs


def _apply(kind, x, y, z, unary):
    which = kind % 16
    if which < 4:
        return unary[kind // 16 % len(unary)](x)
    if which < 10:
        return BINARY[kind // 16 % len(BINARY)](x, y)
    if which == 10:
        return ops.where(x > y, y, z)
    if which == 11:
        return ops.cast(ops.cast(x, "int32"), x.dtype) * 0.5
    if which == 12:
        return ops.leaky_relu(x, 0.25) + 1.5
    if which == 13:
        return ops.broadcast_to(ops.clip(x, -1.0, 2.0), np.broadcast_shapes(x.shape, (4, 10)))
    if which == 14:  # two that nothing fuses
        return ops.flip(x, axis=0) if x.ndim else ops.reshape(x, (1,))
    return ops.max(x, axis=-1, keepdims=True) if x.ndim else x + 1


def traced(f, inputs, device="cpu"):
    tensors = [Tensor(x, Device(device)) for x in inputs]
    return trace(f, *tensors, device=Device(device)), tensors


def assert_same_bits(graph, after, tensors):
    for y, reference in zip(Executable(after)(*tensors), Executable(graph)(*tensors), strict=True):
        assert (y.dtype, y.shape) == (reference.dtype, reference.shape)
        assert y.numpy().tobytes() == reference.numpy().tobytes()


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 32)
    monkeypatch.setattr(tiles, "LEAST", 0)
    monkeypatch.setattr(tiles, "_LEAST_TILE", 1)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_fuse_to_the_same_bits_on_numpy(seed, small_tiles):
    rng = np.random.default_rng(seed)
    dtype = (np.float32, np.float64, np.float16, BFLOAT16)[seed % 4]
    f, inputs = random_function(rng, dtype, operations=25)
    graph, tensors = traced(f, inputs)
    after = fuse_elementwise(graph, **ALWAYS)
    assert len(after.equations) < len(graph.equations)
    assert_same_bits(graph, after, tensors)
    apart = unfused(after)
    assert all(REGISTRY[eq.op.name] is eq.op for eq in apart.equations)
    assert_same_bits(graph, apart, tensors)


@pytest.mark.parametrize(
    "seed", [0, 1, *[pytest.param(seed, marks=pytest.mark.thorough) for seed in range(2, 8)]]
)
def test_random_graphs_fuse_to_the_same_bits_on_the_emulator(seed):
    rng = np.random.default_rng(100 + seed)
    dtype = (np.float32, np.float16, BFLOAT16, np.float64)[seed % 4]
    f, inputs = random_function(rng, dtype, operations=16)
    graph, tensors = traced(f, inputs, "emulator")
    after = fuse_elementwise(graph)
    assert len(after.equations) < len(graph.equations)
    assert_same_bits(graph, after, tensors)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_fuse_to_the_same_bits_in_cpp(seed):
    """Of ops that C++ and NumPy round alike; all loops of a graph are compiled at once."""
    rng = np.random.default_rng(200 + seed)
    f, inputs = random_function(rng, (np.float32, np.float64)[seed % 2], 40, unary=EXACT)
    graph, tensors = traced(f, inputs)
    after = fuse_elementwise(graph, **ALWAYS)
    emit_cpp.prepare(after)
    fused = [eq for eq in after.equations if isinstance(eq.op, Fused)]
    assert fused and all(
        eq.op.rules["native"](operands(eq.inputs), operands(eq.outputs), **eq.attributes)
        for eq in fused
    )
    for y, reference in zip(Program(after)(*tensors), Executable(graph)(*tensors), strict=True):
        np.testing.assert_array_equal(y.numpy(), reference.numpy())


def operands(symbols):
    return [native.contiguous(s.shape, s.dtype) for s in symbols]


@pytest.mark.parametrize("seed", range(60))
def test_no_group_waits_for_itself(seed):
    """Long random graphs of one shape, full of equations that nothing fuses: an order exists."""
    rng = np.random.default_rng(seed)
    choices = rng.integers(0, 1 << 30, (60, 3))

    def f(x):
        values = [x]
        for kind, a, b in choices:
            first, second = (values[-1 - i % min(len(values), 8)] for i in (a, b))
            values.append(ops.cumsum(first, axis=0) if kind % 3 == 0 else first + second)
        return values[-1]

    graph, tensors = traced(f, [np.ones((2, 2), np.int32)])
    assert_same_bits(graph, fuse_elementwise(graph, **ALWAYS), tensors)


# -- which equations become one -------------------------------------------------------------------


def names(graph):
    return [eq.op.name for eq in graph.equations]


def fused_names(f, *inputs):
    graph, tensors = traced(f, inputs)
    after = fuse_elementwise(graph, **ALWAYS)
    assert_same_bits(graph, after, tensors)
    return names(after)


X = np.linspace(-2.0, 2.0, 12, dtype=np.float32).reshape(3, 4)
B = np.linspace(1.0, 2.0, 4, dtype=np.float32)


def test_a_chain_becomes_one_equation_and_reads_a_bias_where_it_is():
    assert fused_names(lambda x, b: ops.tanh(x * b + 1.0), X, B) == ["fused_multiply_add_tanh"]


def test_what_is_read_elsewhere_is_one_more_result():
    def f(x):
        y = ops.exp(x)
        return ops.sqrt(y) * 2.0, ops.sum(y)

    graph, _ = traced(f, [X])
    after = fuse_elementwise(graph, **ALWAYS)
    assert names(after) == ["fused_exp_sqrt_multiply", "sum"]
    assert len(after.equations[0].outputs) == 2


def test_equations_of_another_shape_are_other_groups():
    found = fused_names(lambda x, b: ops.tanh(x + ops.exp(-b)), X, B)
    assert found == ["fused_negative_exp", "fused_add_tanh"]


def test_a_group_does_not_reach_around_an_equation():
    def f(x):
        y = ops.tanh(x)
        return y + ops.cumsum(y, axis=0)

    assert fused_names(f, X) == ["tanh", "cumsum", "add"]


def test_a_group_does_not_reach_around_another_group():
    def f(x, y):
        a = ops.tanh(x)
        b = ops.tanh(y)
        c = ops.cumsum(b, axis=0)
        d = b + ops.cumsum(a, axis=0)  # one group with `b`, which now waits for `a`
        return d, c + a  # and so does `c`: not one group with `a`

    assert sorted(fused_names(f, X, X)) == ["add", "cumsum", "cumsum", "fused_tanh_add", "tanh"]


def test_broadcasts_are_read_where_they_are():
    def f(x, b):
        return ops.relu(ops.broadcast_to(b, (3, 4)) + x)

    assert fused_names(f, X, B) == ["fused_add_relu"]
    kept = fused_names(lambda x, b: (f(x, b), ops.broadcast_to(b, (3, 4))), X, B)
    assert sorted(kept) == ["broadcast_to", "fused_add_relu"]


def test_results_and_new_values_of_variables_are_kept():
    v = gpunet.Variable(X)

    def f(x):
        v.assign(ops.tanh(v * x))
        return v + 1.0

    graph, tensors = traced(f, [X])
    after = fuse_elementwise(graph, **ALWAYS)
    assert names(after) == ["fused_multiply_tanh_add"]
    reference = np.tanh(X * X)
    (y,) = Executable(after)(*tensors)
    np.testing.assert_array_equal(y.numpy(), reference + 1)
    np.testing.assert_array_equal(v.numpy(), reference)


def test_long_chains_are_cut():
    def f(x):
        for _ in range(100):
            x = ops.negative(x)
        return x

    found = fused_names(f, X)
    assert len(found) == 3 and all(name.startswith("fused") for name in found)


def test_equal_chains_share_a_primitive():
    graph, _ = traced(lambda x, y: (ops.tanh(x + 1.0), ops.tanh(y + 1.0)), [X, B])
    first, second = fuse_elementwise(graph, **ALWAYS).equations
    assert first.op is second.op and isinstance(first.op, Fused)
    assert first.op.name not in REGISTRY


def test_small_arrays_are_not_worth_it_on_the_cpu(monkeypatch):
    graph, _ = traced(lambda x: ops.tanh(x + 1.0), [X])
    assert fuse_elementwise(graph) is graph
    large, _ = traced(lambda x: ops.tanh(x + 1.0), [np.zeros((1 << 8, 1 << 8), np.float32)])
    assert names(fuse_elementwise(large)) == ["fused_add_tanh"]
    monkeypatch.setattr(native, "reason_missing", lambda: "no compiler")
    assert fuse_elementwise(large) is large  # in tiles, arrays must be larger still


def test_on_the_cpu_only_steps_that_cpp_has_are_fused():
    x = np.zeros((1 << 8, 1 << 8), np.float32)
    graph, tensors = traced(lambda x: ops.sin(ops.relu(x + 1.0)) * x, [x])
    after = fuse_elementwise(graph)
    assert names(after) == ["fused_add_relu", "sin", "multiply"]
    assert_same_bits(graph, after, tensors)


def test_empty_arrays_stay():
    graph, _ = traced(lambda x: ops.tanh(x + 1.0), [np.zeros((0, 3), np.float32)])
    assert fuse_elementwise(graph, **ALWAYS) is graph


def test_a_fused_equation_costs_its_inputs_and_results():
    graph, _ = traced(lambda x, b: ops.tanh(x * b + 1.0), [X, B])
    (eq,) = fuse_elementwise(graph, **ALWAYS).equations
    assert equation_cost(eq) == ((12 + 4 + 1 + 12) * 4, 3 * 12)


def test_the_composite_means_the_same():
    def f(b, x):
        y = ops.relu(ops.broadcast_to(b, X.shape))
        return y, y + x

    graph, tensors = traced(f, [B, X])
    (eq,) = fuse_elementwise(graph, **ALWAYS).equations
    meant = eq.op.rules["composite"](*tensors, **eq.attributes)
    for y, reference in zip(meant, graph(*tensors), strict=True):
        assert y.shape == X.shape
        np.testing.assert_array_equal(y.numpy(), reference.numpy())


# -- every step, on the rows of the case tables ---------------------------------------------------


def rows_of_steps(dtype):
    """The ops that can be steps of operands of a dtype, each with a row and its inputs."""
    found = []
    for name, row in [(name, row) for name, rows in CASES.items() for row in rows]:
        if dtype not in row.dtypes and dtype != "float64":
            continue
        inputs, op = row.inputs(dtype), REGISTRY[name]
        graph = trace(lambda *xs, op=op, row=row: op(*xs, **row.attributes), *inputs)
        if is_elementwise(graph.equations[0]):
            found.append((op, row, inputs))
    return found


def chain_of(op, row, first=0, arity=None):
    """The chain of one step."""
    count = len(row.recipes)
    step = Step(op, tuple(range(first, first + count)), tuple(sorted(row.attributes.items())))
    return Chain(arity or count, (step,), (arity or count,))


def assert_equal_bits(y, reference):
    y, reference = np.asarray(y), np.asarray(reference)
    assert (y.dtype, y.shape) == (reference.dtype, reference.shape)
    assert y.tobytes() == reference.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_step_has_the_same_bits_in_tiles(dtype, small_tiles):
    device, tiled = Device("cpu"), 0
    for op, row, inputs in rows_of_steps(dtype):
        (reference,) = checks.run(op, inputs, row.attributes)
        chain = chain_of(op, row)
        dtypes = value_dtypes(chain, tuple([x.dtype for x in inputs]))
        found = tiles.run(chain, dtypes, tuple(inputs), reference.shape)
        if found is not None:
            tiled += 1
            assert_equal_bits(found[0], reference.to(device).numpy())
    assert tiled > 150


@pytest.mark.parametrize(
    ("dtype", "shape", "count"),
    [
        ("float32", (5, 7), 12),
        *[
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in [("float32", (3, 7), 60), ("float16", (3, 7), 60), ("bfloat16", (5, 7), 12)]
        ],
    ],
)
def test_every_step_has_the_bits_of_its_kernel(dtype, shape, count):
    """On the emulator, all in one kernel: its text is that of CUDA devices."""
    rows = [r for r in rows_of_steps(dtype) if all(x.shape == shape for x in r[2])]
    steps, arrays = [], [x for _, _, inputs in rows for x in inputs]
    first = 0
    for op, row, inputs in rows:
        steps += chain_of(op, row, first).steps
        first += len(inputs)
    results = tuple(range(first, first + len(steps)))
    found = Fused(Chain(first, tuple(steps), results)).rules["cuda"](*arrays, shape=shape)
    assert len(found) > count
    for y, (op, row, inputs) in zip(found, rows, strict=True):
        (reference,) = checks.run(op, inputs, row.attributes, "emulator")
        assert_equal_bits(y, reference.data)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.thorough)])
def test_every_step_in_cpp(dtype):
    """C++ within the tolerance of a dtype, for every row: empty, 0-d, broadcast, strided."""
    rows, launched = rows_of_steps(dtype), 0
    loops = [emit_cpp.Loop(chain_of(op, row), *_kinds(inputs)) for op, row, inputs in rows]
    emit_cpp.compile_loops([loop for loop in loops if emit_cpp.is_emitted(loop)])
    for op, row, inputs in rows:
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        (reference,) = checks.run(op, wide, row.attributes)
        (same,) = checks.run(op, inputs, row.attributes)
        for given in ([np.asarray(x) for x in inputs], checks.strided(inputs)):
            y = np.full(same.shape, 77).astype(same.dtype)
            plan = emit_cpp.plan(chain_of(op, row), [operand(x) for x in given], [operand(y)])
            if plan is not None:
                launched += 1
                assert native.call(plan, given, [y]) == 0
                precision = dtype if y.dtype.kind == "f" else "bool"
                assert_close(y, reference.numpy(), precision, row.tol)
    assert launched > 200


def _kinds(inputs):
    return tuple([x.dtype for x in inputs]), tuple([x.size == 1 for x in inputs])


# -- kernels --------------------------------------------------------------------------------------


def soft(x, b, c):
    return ops.silu(x * b + c) + b


def equation_of(f, *inputs):
    graph, tensors = traced(f, inputs, "emulator")
    (eq,) = fuse_elementwise(graph).equations
    return eq, tensors


def run_kernel(eq, inputs, shape):
    return eq.op.rules["cuda"](*inputs, shape=shape)


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 1), (2, 3, 2, 3, 2, 3)])
def test_kernels_take_any_shape_and_layout(shape):
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    views = (x, np.asarray(x.T, order="C").T, np.broadcast_to(np.float32(0.5), shape))
    eq, _ = equation_of(soft, *[np.ones((4, 4), np.float32)] * 3)
    steps = [step.op for step in eq.op.chain.steps]
    assert [op.name for op in steps] == ["multiply", "add", "silu", "add"]
    multiply, add, silu, _ = (op.rules["cuda"] for op in steps)
    for c in (views[0], views[1], np.float32(0.25)):
        y = run_kernel(eq, (views[1], views[2], c), shape)
        assert_equal_bits(y, add(silu(add(multiply(views[1], views[2]), c)), views[2]))


def test_numbers_on_the_host_are_computed_there():
    """As the steps do one by one: NumPy has other functions than CUDA."""
    eq, _ = equation_of(soft, *[np.ones((4, 4), np.float32)] * 3)
    numbers = [np.float32(x) for x in (0.3, 0.7, 0.2)]
    y = run_kernel(eq, numbers, ())
    assert isinstance(y, np.float32)
    assert y == ops.silu(numbers[0] * numbers[1] + numbers[2]).numpy() + numbers[1]


def test_no_step_of_a_kernel_merges_with_the_next():
    """Products and sums by functions that are never contracted, or ended by one."""
    eq, _ = equation_of(soft, *[np.ones((4, 4), np.float32)] * 3)
    text = emit_cuda.source(eq.op.chain, (np.dtype(np.float32),) * 3)
    assert text.count("exact::Add()") == 2 and text.count("exact::Multiply()") == 1
    assert "exact::sealed(Silu()" in text


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_kernels_compile_for_gpus_without_spills(dtype):
    eq, _ = equation_of(soft, *[np.ones((4, 4), dtype)] * 3)
    text = emit_cuda.source(eq.op.chain, (np.dtype(dtype),) * 3)
    check_machine_code(assemble(text, "fused.cu"), ["fused<256>"], "sm_90")


def test_a_loop_may_write_over_what_it_reads():
    def f(x, y):
        z = x * y
        return z + y, ops.relu(z - x)

    x, y = (np.linspace(a, 2.0, 1 << 15, dtype=np.float32) for a in (-1.0, -2.0))
    graph, _ = traced(f, [x, y])
    (eq,) = fuse_elementwise(graph, **ALWAYS).equations
    launch = eq.op.rules["native"](operands(eq.inputs), operands(eq.outputs), **eq.attributes)
    assert set(launch.in_place) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    meant = x * y + y, np.maximum(x * y - x, 0)
    assert native.call(launch, [x, y], [y, x]) == 0  # each result over the other's operand
    np.testing.assert_array_equal(y, meant[0])
    np.testing.assert_array_equal(x, meant[1])


def test_half_precision_is_not_emitted():
    graph, _ = traced(lambda x: ops.tanh(x + x), [np.ones((300, 300), np.float16)])
    (eq,) = fuse_elementwise(graph, **ALWAYS).equations
    rule = eq.op.rules["native"]
    assert rule(operands(eq.inputs), operands(eq.outputs), **eq.attributes) is None
    assert fuse_elementwise(graph) is graph


def test_loops_broadcast_on_all_threads():
    def f(x, row, column):
        y = ops.maximum(x * row, column)
        return y - x, ops.where(y > row, column, y)

    rng = np.random.default_rng(0)
    shapes = (3, 1 << 12, 20), (20,), (1 << 12, 1)
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    graph, tensors = traced(f, inputs)
    (eq,) = fuse_elementwise(graph).equations
    results = [np.zeros(s.shape, s.dtype) for s in eq.outputs]
    launch = eq.op.rules["native"](operands(eq.inputs), operands(eq.outputs), **eq.attributes)
    given = dict(zip(graph.inputs, inputs, strict=True))
    assert native.call(launch, [given[s] for s in eq.inputs], results) == 0
    for y, reference in zip(results, Executable(graph)(*tensors), strict=True):
        np.testing.assert_array_equal(y, reference.numpy())
