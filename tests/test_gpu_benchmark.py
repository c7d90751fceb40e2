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
