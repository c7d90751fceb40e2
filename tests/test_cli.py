"""The command line, as a user calls it."""

import pytest

import gpunet
from gpunet import cli


def test_demo_trains_saves_and_checks(capsys, tmp_path):
    path = tmp_path / "digits.keras"
    assert cli.main(["demo", "--device", "cpu", "--epochs", "2", "--save", str(path)]) == 0
    text = capsys.readouterr().out
    assert "Total params: 151,402" in text
    assert "Test accuracy 0.9" in text
    assert "the same predictions" in text
    assert gpunet.models.load_model(path).predict([[[[0.0]] * 8] * 8], verbose=0).shape == (1, 10)


@pytest.mark.slow
def test_demo_on_the_emulator_starts_as_on_the_cpu(capsys):
    assert cli.main(["demo", "--device", "emulator", "--epochs", "1"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("First-step loss"))
    cpu, emulator = (float(part.split(":")[1]) for part in line.split(","))
    assert cpu == pytest.approx(emulator, abs=1e-5)


def test_a_step_that_differs_fails(capsys):
    assert cli._verdict(0.99, {"cpu": 1.0, "cuda:0": 1.1}, full=True) == 1
    assert cli._verdict(0.9, {"cpu": 1.0}, full=True) == 1
    assert cli._verdict(0.99, {"cpu": 1.0}, full=True) == 0
    assert capsys.readouterr().out.count("FAILED") == 2


def test_devices_says_what_works_and_what_does_not(capsys, monkeypatch):
    monkeypatch.setattr(cli, "cuda_status", lambda: (0, 'pip install "gpunet[cuda13]"'))
    assert cli.main(["devices"]) == 0
    text = capsys.readouterr().out
    assert "cpu         works" in text
    assert "cuda        does not work here: pip install" in text
    assert "emulator" in text


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["demo", "--epochs", "0"], ["demo", "--epochs", "two"]]
)
def test_wrong_arguments_end_with_a_usage_message(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_unknown_device_is_named(capsys):
    assert cli.main(["demo", "--device", "tpu"]) == 2
    assert "Received: device='tpu'" in capsys.readouterr().err
