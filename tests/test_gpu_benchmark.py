"""The GPU benchmark without a GPU: it runs on the emulator, and its clock and tools on fakes."""

import contextlib
import importlib
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from gpunet.backend.sources import kernel_dir

FOLDER = Path(__file__).with_name("benchmarks")


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    """The scripts import each other by name, as from the command line."""
    monkeypatch.syspath_prepend(str(FOLDER))


def module(name):
    return importlib.import_module(name)


# -- the whole script -----------------------------------------------------------------------------


def test_the_script_runs_on_the_emulator(tmp_path):
    command = [
        sys.executable,
        str(FOLDER / "gpu.py"),
        "--emulate",
        "--quick",
        "--skip=tests,jax,end",
    ]
    command += ["--out", str(tmp_path), "--only", "softmax|max pooling"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert report["device"] == "emulator"
    assert {"date", "commit", "versions", "environment"} <= report.keys()
    lines = {line["op"]: line for line in report["parts"]["ops"]}
    assert {"softmax", "softmax, backward", "log-softmax", "max pooling"} <= lines.keys()
    for line in lines.values():  # checked, and no figure is claimed
        assert line["us"] is line["share"] is None
        assert line["note"] == "emulated"
        assert line["details"]["errors"]
        assert line["details"]["deterministic"]
    assert lines["softmax"]["details"]["kernels"][0].startswith("softmax.cu:softmax_forward<")
    assert "rows emulated: results checked, nothing timed" in done.stdout
    assert (tmp_path / "gpu.md").read_text("utf-8") in done.stdout
    assert module("gpu_report").record_figures(tmp_path / "gpu.json", tmp_path) == 1


def test_the_emulator_refuses_the_sizes_of_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--emulate"])
    with pytest.raises(SystemExit):
        module("gpu").parse()
    assert "--quick" in capsys.readouterr().err


# -- a row ----------------------------------------------------------------------------------------


class Graphs:
    """A clock that knows how long everything takes."""

    def __init__(self, seconds, captures=True):
        self.each, self.captures, self.done = seconds, captures, []

    def active(self):
        return contextlib.nullcontext()

    def seconds(self, work):
        before = len(self.done)
        work()
        return self.each * max(len(self.done) - before, 1)

    def capture(self, work):
        return work if self.captures else None


def fake_machine(seconds):
    """The emulator with a clock, and without PyTorch."""
    machine = module("gpu_measure").Machine("emulator")
    machine.times, machine.torch = True, None
    machine.wait = lambda: None
    machine.graphs = lambda: Graphs(seconds)
    return machine


def softmax_row(**changes):
    table, row = module("gpu_table"), module("gpu_row")
    settings = {"target": 0.88, "quick": table.QUICK} | changes
    run = settings.pop("run", row.op("softmax", axis=-1))
    return row.Row("softmax", run, table.one, table.WIDE, **settings)


def ceilings(rate=1.0):
    kinds = ("copy", "read", "write")
    rows = [{"ceiling": kind, "bytes": 1 << 20, "GB/s": rate} for kind in kinds]
    return module("gpu_ceilings").Ceilings(rows)


def test_a_right_row_gets_time_share_and_noise(monkeypatch):
    monkeypatch.setattr(module("gpu_measure"), "buffer_sets", lambda nbytes: 2)
    line = module("gpu_measure").run_row(softmax_row(), fake_machine(2e-3), ceilings(), quick=True)
    nbytes = 2 * 2 * 5 * 33
    assert line["us"] == pytest.approx(2e-3 * 1e6 / 2)  # Graphs counts a replay of both sets as one
    assert line["details"]["bytes"] == nbytes
    assert line["share"] == pytest.approx(nbytes / 1e-3 / 1e9)
    assert line["details"]["noise"] == 0
    assert module("gpu_report").verdict(line) == "missed"


def test_a_wrong_row_gets_no_time():
    def wrong(x):
        return module("gpu_row").op("softmax", axis=0)(x)

    row = softmax_row(run=wrong, reference=module("gpu_row").op("softmax", axis=-1))
    line = module("gpu_measure").run_row(row, fake_machine(1e-3), ceilings(), quick=True)
    assert line["us"] is None
    assert line["note"].startswith("wrong, not timed")
    assert module("gpu_report").failures({"parts": {"ops": [line]}}) == ["softmax"]


def test_one_wrong_element_among_many_is_wrong():
    check = module("gpu_check")
    exact = [np.ones(10**6)]
    broken = [np.ones(10**6, "float32")]
    broken[0][-1] = 0.5
    assert not check.is_right(check.errors(np, broken, exact), broken, 1.0, [])
    broken[0][-1] = np.nan
    assert not check.is_right(check.errors(np, broken, exact), broken, 1.0, [])
    broken[0][-1] = 1
    assert check.is_right(check.errors(np, broken, exact), broken, 1.0, [])


def test_a_row_that_fails_says_why():
    row = softmax_row(run=module("gpu_row").op("no_such_op"))
    line = module("gpu_measure").run_row(row, fake_machine(1e-3), ceilings(), quick=True)
    assert (line["us"], line["note"]) == (None, "KeyError: 'no_such_op'")


def test_the_reference_launches_no_kernel():
    check, row = module("gpu_check"), softmax_row()
    device = module("gpu_measure").Machine("emulator").device
    inputs = check.tensors(row.draw(np, quick=True), device)
    with check.noting_kernels() as launched:
        check.reference(row.run, inputs)
        assert launched == []
        check.results(row.run, inputs)
        assert len(launched) == 1


def test_every_target_of_the_project_has_a_row():
    targets = {row.name: row.target for row in module("gpu_worker").ROWS.values() if row.target}
    wanted = {"add": 0.94, "sum of rows": 0.93, "softmax": 0.88, "layer norm": 0.88}
    wanted |= {"cross-entropy with gradient": 0.82, "layer norm, backward": 0.75}
    wanted |= {"batch norm": 0.82, "bias + GELU": 0.92, "bias + GELU, backward": 0.87}
    wanted |= {"dropout": 0.90, "Adam": 0.91, "embedding": 0.85, "embedding, backward": 0.50}
    wanted |= {"max pooling": 0.85, "max pooling, backward": 0.75, "transpose": 0.85}
    wanted |= {"matrix product of 8192": 1.0, "convolution 3x3, 64 at 56": 0.60}
    wanted |= {"attention, head 64": 0.70, "attention, head 64, backward": 0.50}
    assert wanted.items() <= targets.items()


# -- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("captures", [True, False])
def test_launches_fill_the_window(captures):
    graphs = Graphs(1e-5, captures)
    timing = module("gpu_timing").measure(graphs, graphs.done.append, sets=3)
    assert timing.median == timing.low == timing.high == pytest.approx(1e-5)
    assert timing.captured is captures
    assert set(graphs.done) == {0, 1, 2}  # every set takes its turn
    assert len(graphs.done) % 3 == 0


def test_ceilings_between_the_sizes_measured():
    rows = [("copy", 100, 1.0), ("copy, cudaMemcpyAsync", 100, 2.0), ("copy", 10_000, 4.0)]
    rows = [{"ceiling": kind, "bytes": n, "GB/s": rate} for kind, n, rate in rows]
    known = module("gpu_ceilings").Ceilings(rows)
    assert known.at("copy", 10) == 2e9  # the better of the two
    assert known.at("copy", 1000) == pytest.approx(3e9)
    assert known.at("copy", 10**9) == 4e9
    assert known.at("read", 100) is None


class Event:
    def __init__(self, **_):
        self.time = None

    def record(self, stream):
        self.time = stream.time

    def synchronize(self):
        assert self.time is not None

    def elapsed_time(self, later):
        return later.time - self.time


class Stream(contextlib.nullcontext):
    """A stream on which each piece of work takes three milliseconds."""

    def __init__(self, **_):
        super().__init__(self)
        self.time, self.capturing = 0.0, False

    def begin_capture(self):
        self.capturing = True

    def end_capture(self):
        self.capturing = False
        return self

    def launch(self, stream):
        stream.time += 3


def fake_cupy():
    cuda = types.SimpleNamespace(
        Event=Event,
        Stream=Stream,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda allocate: contextlib.nullcontext(),
        get_elapsed_time=Event.elapsed_time,
    )
    return types.SimpleNamespace(cuda=cuda)


def test_cupy_graphs():
    graphs = module("gpu_timing").CupyGraphs(fake_cupy())
    replay = graphs.capture(lambda: None)
    assert graphs.seconds(replay) == pytest.approx(3e-3)


def test_what_cannot_be_captured_is_timed_without_a_graph():
    graphs = module("gpu_timing").CupyGraphs(fake_cupy())
    before = graphs.stream

    def work():
        raise NotImplementedError("calling cuBLAS API during stream capture")

    assert graphs.capture(work) is None
    assert not before.capturing
    assert graphs.stream is not before


def test_torch_graphs():
    class Graph(contextlib.nullcontext):
        def __init__(self, graph=None, stream=None):
            super().__init__()

    cuda = types.SimpleNamespace(
        Event=Event,
        Stream=Stream,
        stream=lambda stream: stream,
        CUDAGraph=lambda: types.SimpleNamespace(replay="replayed"),
        graph=Graph,
    )
    graphs = module("gpu_timing").TorchGraphs(types.SimpleNamespace(cuda=cuda))
    assert graphs.capture(lambda: None) == "replayed"
    assert graphs.seconds(lambda: graphs.stream.launch(graphs.stream)) == pytest.approx(3e-3)


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        ("print('{\"begin\": 1}')", ""),
        ("print('{\"begin\": 1}'); raise SystemExit(3)", "ended with status 3; see log.txt"),
        ("import time; print('{\"begin\": 1}', flush=True); time.sleep(60)", "silent for 2 s"),
    ],
)
def test_workers_that_end_fail_and_hang(tmp_path, script, trouble):
    path = tmp_path / "worker.py"
    path.write_text(script)
    options = types.SimpleNamespace(quick=True, emulate=True)
    run = types.SimpleNamespace(out=tmp_path, device="emulator", options=options)
    worker = module("gpu_processes").Worker(run, str(path), [])
    assert list(worker.events(seconds=2)) == [{"begin": 1}]
    assert worker.trouble == trouble
    assert worker.process.poll() is not None
    assert not module("gpu_processes").Worker.running


# -- training steps -------------------------------------------------------------------------------


@pytest.mark.thorough
def test_networks_train_on_the_emulator(tmp_path):
    command = [sys.executable, str(FOLDER / "gpu.py"), "--emulate", "--quick", "--models", "all"]
    command += ["--contenders", "gpunet", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]["models"]
    assert len(rows) == len(module("gpu_models").NETWORKS) == 5
    for row in rows:
        assert row["gpunet ms"] is None  # no figure is claimed
        facts = row["details"]["gpunet"]
        assert facts["note"] == "tiny, not timed", facts
        assert facts["last loss"] < facts["first loss"]
        assert facts["warnings"] == []  # such as that a graph runs op by op
        assert facts["parameters"] > 300
    assert "tiny networks trained, nothing timed" in done.stdout
    assert module("gpu_report").record_figures(tmp_path / "gpu.json", tmp_path) == 1


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "resnet", "gpt"])
def test_pytorch_trains_the_same_networks(name):
    pytest.importorskip("torch")
    find_out = module("gpu_models").find_out
    ours, theirs = (find_out(c, name, "emulator", True) for c in ("gpunet", "PyTorch eager"))
    assert theirs["note"] == "tiny, not timed", theirs
    assert theirs["parameters"] == ours["parameters"]
    assert theirs["last loss"] < theirs["first loss"]


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "resnet", "gpt"])
def test_jax_steps_are_of_the_same_networks(name):
    jax = pytest.importorskip("jax")  # traced only: compiling them takes seconds
    models, peer = module("gpu_models"), module("gpu_models_jax")
    network = models.NETWORKS[name]
    weights, state, apply = peer.BUILD[name](**network.quick)
    slots = peer.empty_slots(network, weights)
    step, batch = peer.training_step(network, apply), network.arrays(quick=True)
    *after, loss = jax.eval_shape(step, weights, slots, state, *batch)
    facts = models.find_out("gpunet", name, "emulator", True)
    assert sum(w.size for w in weights.values()) == facts["parameters"]
    assert loss.shape == ()
    shapes = [[(x.shape, x.dtype) for x in jax.tree_util.tree_leaves(y)]
              for y in (after, [weights, slots, state])]  # fmt: skip
    assert shapes[0] == shapes[1]


def test_networks_of_full_size_have_targets():
    networks = module("gpu_models").NETWORKS
    targets = {name: network.target for name, network in networks.items()}
    eager, compiled = "PyTorch eager", "PyTorch compile"
    wanted = {"mlp": (eager, 3.0), "lstm": (eager, 3.0), "cnn": None}
    assert targets == wanted | {"resnet": (compiled, 0.8), "gpt": (compiled, 0.95)}
    assert {name for name, network in networks.items() if network.mixed} == {"resnet", "gpt"}
    assert networks["gpt"].items == 32 * 1024


class Steps:
    """A contender whose steps take two milliseconds by its own clock."""

    def __init__(self, monkeypatch, losses=(3.0, 2.0)):
        self.models, self.now, self.losses = module("gpu_models"), 0.0, list(losses)
        monkeypatch.setattr(self.models, "perf_counter", lambda: self.now)

    def step(self):
        self.now += 2e-3

    def measured(self):
        ready = self.models.Ready(
            7, self.step, lambda: self.losses.pop(0), lambda: None, lambda: None
        )
        return self.models.measure(ready, quick=False)


def test_steps_are_timed_in_windows(monkeypatch):
    facts = Steps(monkeypatch).measured()
    assert (facts["ms"], facts["low ms"]) == pytest.approx((2, 2))
    assert facts["steps"] == 9 * 150


@pytest.mark.parametrize("last", [3.0, float("nan")])
def test_a_network_that_does_not_learn_has_no_time(monkeypatch, last):
    facts = Steps(monkeypatch, (3.0, last)).measured()
    assert (facts["ms"], facts["note"]) == (None, "void: it does not learn")


def test_a_step_is_captured_when_it_is_warm():
    pytest.importorskip("torch")
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    done, before = [], []

    def graph(captured):
        before.extend(done)
        return contextlib.nullcontext()

    cuda = types.SimpleNamespace(
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=contextlib.nullcontext,
        synchronize=lambda: None,
        CUDAGraph=lambda: types.SimpleNamespace(replay="replayed"),
        graph=graph,
    )
    capture = module("gpu_models_torch").captured
    launch, loss = capture(cuda, lambda: done.append("step") or len(done))
    assert (launch, loss) == ("replayed", 5)
    assert len(before) == 4


def found(ours=1.0, eager=2.5, parameters=(9, 9)):
    facts = {"note": "", "warnings": [], "first step s": 0.5}
    return {
        "gpunet": {**facts, "ms": ours, "parameters": parameters[0], "held GB": 1.0},
        "PyTorch eager": {**facts, "ms": eager, "parameters": parameters[1]},
        "gpunet again": {**facts, "ms": 1.2 * ours, "parameters": parameters[0]},
    }


def test_ratios_and_verdicts_of_networks():
    report = module("gpu_report")
    missed, hit = report.model_rows({"mlp": found(), "lstm": found(eager=4.0)})
    assert missed["gpunet ms"] == pytest.approx(1.1)  # of both runs
    assert missed["items / s"] == pytest.approx(128 / 1.1e-3)
    assert missed["PyTorch eager / ours"] == pytest.approx(2.5 / 1.1)
    assert missed["JAX jit / ours"] is None
    assert missed["details"]["noise"] == pytest.approx(0.2)
    assert (missed["result"], hit["result"]) == ("missed", "hit")
    whole = {"device": "NVIDIA H200", "parts": {"models": [missed, hit]}}
    assert "gpunet again 20.0 % off" in report.summary(whole)
    assert report.failures(whole) == []


def test_other_networks_and_lost_ones_fail():
    report = module("gpu_report")
    (row,) = report.model_rows({"mlp": found(parameters=(9, 8))})
    assert row["result"].startswith("void: parameters")
    assert row["PyTorch eager / ours"] is None
    lost = {"gpunet": {"ms": None, "note": "silent for 75 s"}}
    rows = [row, *report.model_rows({"gpt": lost})]
    whole = {"device": "NVIDIA H200", "parts": {"models": rows}}
    assert len(report.failures(whole)) == 2
    assert "GPT-2 124M, batch 32x1024, bf16: gpunet: silent for 75 s" in report.summary(whole)


def test_networks_recorded_by_two_commands(tmp_path, monkeypatch):
    record, report = module("record"), module("gpu_report")
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"{record.BEGIN}{record.END}")
    for commit, names in (("abc", ("mlp", "gpt")), ("def", ("gpt", "lstm"))):
        rows = report.model_rows({name: found() for name in names})
        whole = REPORT | {"commit": commit, "parts": {"models": rows}}
        (tmp_path / "gpu.json").write_text(json.dumps(whole))
        assert report.record_figures(tmp_path / "gpu.json", tmp_path) == 0
    kept = json.loads((tmp_path / "results" / "gpu.json").read_text())["models"]["results"]
    assert [row["model"].split()[0] for row in kept] == ["MLP", "LSTM", "GPT-2"]
    assert [row["commit"] for row in kept] == ["abc", "def", "def"]
    assert "| LSTM 128, batch 64x64 |" in (tmp_path / "README.md").read_text()


# -- what is kept ---------------------------------------------------------------------------------

LINE = {
    "op": "softmax",
    "size": "R=65536 C=1024",
    "dtype": "bfloat16",
    "us": 70.0,
    "share": 0.89,
    "of": "copy",
    "target": 0.88,
    "note": "",
    "details": {
        "kernels": ["softmax.cu:softmax_forward<__nv_bfloat16, 256>"],
        "rivals": {"PyTorch": {"us": 77.0, "ratio": 1.1}},
    },
}
REPORT = {"device": "NVIDIA H200", "date": "2026-12-01T00:00:00+00:00", "commit": "abc"}
REPORT |= {"system": "Linux", "versions": {}, "environment": {}, "parts": {"ops": [LINE]}}


def test_the_table_shows_targets_and_ratios():
    text = module("gpu_report").summary(REPORT)
    assert "| softmax | R=65536 C=1024 | bfloat16 | 70 | 0.89 | copy | 0.88 | hit | 1.1 |" in text
    assert "targets hit 1, missed 0" in text


def test_figures_go_into_results_readme_and_kernels(tmp_path, monkeypatch, capsys):
    record = module("record")
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{record.BEGIN}old\n{record.END}after\n")
    for name in ("softmax.cu", "pool.cu"):
        shutil.copy(kernel_dir() / name, tmp_path / name)
    module("gpu_report").write_measured_lines(REPORT | {"parts": {}}, tmp_path)
    unmeasured = {path.name: path.read_text() for path in tmp_path.glob("*.cu")}
    (tmp_path / "gpu.json").write_text(json.dumps(REPORT))
    (tmp_path / "quick.json").write_text(json.dumps(REPORT | {"quick": True}))
    report = module("gpu_report")
    assert report.record_figures(tmp_path / "quick.json", tmp_path) == 1
    assert report.record_figures(tmp_path / "gpu.json", tmp_path) == 0
    assert "1 kernels say what was measured" in capsys.readouterr().out

    kept = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert (kept["ops"]["device"], kept["ops"]["commit"]) == ("NVIDIA H200", "abc")
    assert kept["ops"]["results"][0]["details"]["rivals"]["PyTorch"]["us"] == 77.0
    readme = (tmp_path / "README.md").read_text()
    assert "`python tests/benchmarks/gpu.py` (NVIDIA H200, 2026-12-01, commit abc)" in readme
    assert "| softmax | R=65536 C=1024 | bfloat16 | 70 |" in readme
    assert "details" not in readme

    text = (tmp_path / "softmax.cu").read_text()
    above = text.split("softmax_forward(")[0].split("// Source")[-1]
    assert "// Measured  89 % of copy, 70.0 us (softmax, bfloat16 R=65536 C=1024; NVIDIA" in above
    assert max(map(len, text.splitlines())) <= 100
    assert (tmp_path / "pool.cu").read_text() == unmeasured["pool.cu"]

    # Measured again, and lost: the figure goes.
    report.write_measured_lines(REPORT | {"parts": {"ops": []}}, tmp_path)
    assert (tmp_path / "softmax.cu").read_text() == unmeasured["softmax.cu"]


def test_every_kernel_is_found_below_its_measured_line():
    report = module("gpu_report")
    for path in kernel_dir().glob("*.cu"):
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("// Measured"):
                assert report._kernel_below(lines, number), f"{path.name} line {number + 1}"
