"""A graph drawn, kept in a file, counted; and where its equations come from."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import gpunet
from gpunet import layers
from gpunet.compile import Graph
from gpunet.errors import ArgumentError, SavingError, ShapeError


def small_model():
    model = gpunet.Sequential([gpunet.Input((4,)), layers.Dense(3, activation="tanh")])
    model.compile(gpunet.optimizers.Adam(), "mse")
    return model


def train_graph(model):
    def step(x, y):
        with gpunet.GradientTape() as tape:
            loss = ((y - model(x)) ** 2).mean()
        return {"loss": loss, "gradients": tape.gradient(loss, model.trainable_variables)}

    return gpunet.function(step).graph(gpunet.ops.ones((2, 4)), gpunet.ops.zeros((2, 3)))


def test_equations_know_layer_and_line():
    model = small_model()
    graph = train_graph(model)
    origins = {eq.op.name: eq.origin for eq in graph.equations}
    dense = origins["bias_activation"]
    assert dense.layer == model.layers[0].path and not dense.of_gradient
    file, line = dense.line.rsplit(":", 1)
    assert Path(file).name == "test_graph.py"
    assert "model(x)" in Path(__file__).read_text().splitlines()[int(line) - 1]
    back = origins["bias_activation_grad"]
    assert back == dense.gradient() and str(back).startswith("gradient of layer ")
    assert origins["mean"].layer is None


def test_a_gradient_through_smaller_ops_has_one_origin():
    def step(x):
        with gpunet.GradientTape() as tape:
            tape.watch(x)
            y = gpunet.ops.prod(x) + gpunet.ops.sum(x)  # `prod` takes a tape of its own
        return tape.gradient(y, x)

    equations = gpunet.function(step).graph(gpunet.ops.ones(3)).equations
    assert [eq.op.name for eq in equations if not eq.origin.of_gradient] == []


def test_lines_of_code_beside_the_package_are_the_users():
    file = str(Path(gpunet.__file__).parent) + "_examples/optree_demo.py"
    namespace = {"ops": gpunet.ops}
    exec(compile("def f(x):\n    return ops.exp(x)", file, "exec"), namespace)
    graph = gpunet.function(namespace["f"]).graph(gpunet.ops.ones(3))
    assert graph.equations[0].origin.line == f"{file}:2"


def test_origins_end_with_the_gradient_they_belong_to():
    x = gpunet.Variable([1.0, 2.0])

    @gpunet.function
    def step():
        with gpunet.GradientTape() as tape:
            y = gpunet.ops.exp(x)
        g = tape.gradient(y, x)
        return gpunet.ops.sin(g)

    assert not step.graph().equations[-1].origin.of_gradient


def test_an_error_while_running_names_the_layer_and_the_line():
    embedding = layers.Embedding(3, 2, name="letters")
    embedding(gpunet.tensor([0]))
    run = gpunet.function(lambda ids: embedding(ids))
    with pytest.raises(Exception, match=r"3|index|range") as caught:
        run(gpunet.tensor([7]))
    assert any("letters" in note and "test_graph.py" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("suffix", "signs"),
    [(".mmd", ["flowchart TD", "-->"]), (".md", ["```mermaid"]), (".dot", ["digraph {", "->"])],
)
def test_drawings(tmp_path, suffix, signs):
    graph = train_graph(small_model())
    text = graph.draw(tmp_path / f"graph{suffix}", origins=True)
    assert (tmp_path / f"graph{suffix}").read_text() == text
    for sign in [*signs, "bias_activation", "gradient of layer", "dense"]:
        assert sign in text
    arrow = "-->" if suffix != ".dot" else "->"
    inputs = sum(len(dict.fromkeys(eq.inputs)) for eq in graph.equations)
    scalars = [s for s in graph.constants if s.size == 1]
    hidden = sum(eq.inputs.count(s) for eq in graph.equations for s in scalars)
    assert text.count(f" {arrow} ") == inputs - hidden + len(graph.outputs)


@pytest.mark.parametrize(
    ("suffix", "label"),
    [
        (".mmd", 'v0(["a#34;b#92;#60;c#62;#35; float32[]"])'),
        (".dot", r'label="a\"b\\<c># float32[]"'),
    ],
)
def test_names_of_a_drawing_are_quoted(tmp_path, suffix, label):
    count = gpunet.Variable(1.0, name='a"b\\<c>#')
    graph = gpunet.function(lambda: count + 1.0).graph()
    assert label in graph.draw(tmp_path / f"graph{suffix}")


def test_a_drawing_of_an_unknown_kind():
    with pytest.raises(ArgumentError, match=r"\.svg.*Received: suffix='\.png'"):
        train_graph(small_model()).draw("graph.png")


def test_cost_counts_the_products():
    graph = train_graph(small_model())
    rows = {row.op: row for row in graph.cost().rows}
    assert rows["matmul"].flops == 2 * (2 * 2 * 4 * 3)  # forward, and gradient of the kernel
    assert graph.cost().flops == sum(row.flops for row in rows.values())
    assert str(graph.cost()).splitlines()[-1].split()[0] == "total"


def test_a_graph_read_back_computes_the_same(tmp_path):
    model = small_model()
    graph = train_graph(model)
    graph.save(tmp_path / "step.safetensors")
    loaded = Graph.load(tmp_path / "step.safetensors")
    assert str(loaded) == str(graph)
    assert [eq.origin for eq in loaded.equations] == [eq.origin for eq in graph.equations]
    assert loaded.structure == graph.structure
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    y = np.ones((2, 3), "float32")
    for ours, theirs in zip(loaded(x, y), graph(x, y), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()


def test_variables_of_a_graph_read_back_are_its_own(tmp_path):
    count = gpunet.Variable(1.0, name="count")
    graph = gpunet.function(lambda: count.assign_add(1.0)).graph()
    graph.save(tmp_path / "count.safetensors")
    loaded = Graph.load(tmp_path / "count.safetensors")
    loaded()
    loaded()
    (variable, _, _), *_ = loaded.cells.values()
    assert (variable.name, float(variable), float(count)) == ("count", 3.0, 1.0)


def test_attributes_survive(tmp_path):
    def f(x):
        parts = gpunet.ops.split(x, 2, axis=1)
        return (parts[0][None, ..., 1:3].astype("float64"), {"sum": parts[1].sum(axis=(0, 1))})

    graph = gpunet.function(f).graph(gpunet.ops.ones((3, 8)))
    graph.save(tmp_path / "graph.safetensors")
    loaded = Graph.load(tmp_path / "graph.safetensors")
    for eq, other in zip(loaded.equations, graph.equations, strict=True):
        assert (eq.op, eq.attributes) == (other.op, other.attributes)


def set_in(content, place, value):
    *way, last = place
    for key in way:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["format"], "other"),
        (["device"], "toaster"),
        (["inputs"], [10**6]),
        (["inputs"], []),  # which equations read
        (["constants"], []),
        (["cells"], [[]]),
        (["cells", 0, 2, "name"], "a/b"),
        (["symbols"], [[]]),
        (["symbols", 0, 0], [-1, 4]),
        (["symbols", 0, 0], "abc"),
        (["symbols", 0, 1], "object"),
        (["symbols", 2, 0], [10**9, 10**9]),  # of a weight, whose array is smaller
        (["equations"], []),  # which results come from
        (["equations", 0], ["matmul"]),
        (["equations", 0, 0], "system"),
        (["equations", 0, 1], []),
        (["equations", 0, 2], []),
        (["equations", 0, 2], {"__class__": 1}),
        (["equations", 0, 3], [0]),  # of another shape than is computed
        (["results"], []),
        (["results"], ["system", 1]),
    ],
)
def test_a_damaged_file(tmp_path, place, value):
    path = tmp_path / "graph.safetensors"
    train_graph(small_model()).save(path)
    with safe_open(path, "numpy") as file:
        content = json.loads(file.metadata()["graph"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    set_in(content, place, value)
    save_file(arrays, path, {"graph": json.dumps(content)})
    with pytest.raises(SavingError):
        Graph.load(path)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "graph.safetensors"
    train_graph(small_model()).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SavingError):
        Graph.load(path)
    save_file({}, path, {"graph": "[" * 10**5 + "]" * 10**5})
    with pytest.raises(SavingError):
        Graph.load(path)


def test_shapes_are_checked_after_loading(tmp_path):
    graph = train_graph(small_model())
    graph.save(tmp_path / "graph.safetensors")
    with pytest.raises(ShapeError):
        Graph.load(tmp_path / "graph.safetensors")(np.ones((3, 4), "float32"), np.ones((2, 3)))
