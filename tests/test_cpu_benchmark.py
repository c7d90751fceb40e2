"""The CPU benchmark: gpunet trains in a process of its own, and targets are judged by ratios."""

import importlib
import math
from pathlib import Path

import pytest

import gpunet

FOLDER = Path(__file__).with_name("benchmarks")


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    """The scripts import each other by name, as from the command line."""
    monkeypatch.syspath_prepend(str(FOLDER))


def found(milliseconds, ways=("step", "fit"), megabytes=100.0):
    """What `compare` returns for a contender whose rounds took these times."""
    rounds = {way: dict(enumerate(m / 1e3 for m in milliseconds)) for way in ways}
    turns, cpu = dict.fromkeys(ways, 1), {way: [0.001] for way in ways}
    return {"rounds": rounds, "turns": turns, "CPU s": cpu, "peak MB": megabytes}


def test_a_contender_is_measured_in_its_process():
    rounds = importlib.import_module("cpu_rounds")
    facts = rounds.compare("digits", ["gpunet"], 2, 0.01)["gpunet"]
    assert facts["parameters"] == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert set(facts["turns"]) == {"step", "fit", "inference"}
    assert all(len(times) == 2 for times in facts["rounds"].values())
    assert 0 < facts["rounds"]["fit"][1] < 1 and facts["peak MB"] > 10
    assert facts["loss"] < 2.4


def test_a_contender_that_fails_says_why():
    rounds = importlib.import_module("cpu_rounds")
    worker = rounds.Worker("gpunet", "digits", ([], []), 0.01)  # no data
    worker.end()
    assert worker.failure and "Error" in worker.failure


def test_networks_are_the_same_in_jax():
    models, peers = importlib.import_module("cpu_models"), importlib.import_module("cpu_jax")
    for name, workload in models.WORKLOADS.items():
        weights = workload.build(gpunet).trainable_variables
        ours = sum(math.prod(w.shape) for w in weights)
        assert ours == sum(w.size for w in peers.NETWORKS[name]()[0].values())


def test_ratios_are_medians_of_rounds():
    rounds = importlib.import_module("cpu_rounds")
    # The machine was busy in the second round: the ratio does not see it.
    assert rounds.ratio({0: 1.0, 1: 9.0, 2: 1.0}, {0: 2.0, 1: 18.0, 2: 2.0}) == 0.5
    assert rounds.ratio({0: 1.0, 1: 2.0}, {1: 1.0}) == 2.0
    assert rounds.ratio({0: 1.0}, {}) is None


def test_targets_are_judged():
    report = importlib.import_module("cpu_report")
    measured = {
        "resnet": {
            "gpunet": found([10, 10, 10], megabytes=50.0),
            "PyTorch eager": found([20, 20, 20], ("step",)),
            "Keras JAX": found([11, 11, 11], ("fit",)),
            "Keras PyTorch": "failed",
        },
        "gpt": {"gpunet": found([10]), "PyTorch eager": found([5], ("step",))},
    }
    seconds = {"gpunet": [1.0], "Keras JAX": [5.0], "Keras PyTorch": [9.0]}
    rows = {row["target"]: row for row in report.target_rows(measured, seconds, {"resnet": 1.5})}
    eager = rows["ResNet-20 32x32, step: time / PyTorch eager"]
    keras = rows["ResNet-20 32x32, fit: time / every Keras, Keras JAX"]
    assert (eager["measured"], eager["verdict"]) == (0.5, "met")
    assert keras["verdict"] == "missed by 14%"
    assert rows["ResNet-20 32x32: peak memory / PyTorch"]["measured"] == 0.5
    assert "not measured" in rows["char GPT 4x128, step: time / PyTorch best"]["verdict"]
    assert rows["ResNet-20: tracing and planning, s"]["verdict"] == "missed by 50%"
    assert rows["first step of the MLP: time / Keras JAX"]["verdict"] == "met"


def test_tables_show_times_with_ratios():
    report = importlib.import_module("cpu_report")
    record = importlib.import_module("record")
    measured = {"mlp": {"gpunet": found([3]), "PyTorch eager": found([4], ("step",))}}
    rows = report.time_rows(measured, ("step", "fit"))
    assert record.table(rows) == [
        ["ms (gpunet / peer)", "gpunet", "PyTorch eager"],
        ["MLP 784-512-512-10, batch 128: step", "3", "4 (0.75)"],
        ["MLP 784-512-512-10, batch 128: fit", "3", "-"],
    ]
    assert rows[0]["details"]["PyTorch eager"]["ratio"] == 0.75
