"""What the README says is so: its examples run, and its figures are those that were measured."""

import re
import sys
from pathlib import Path

import pytest

import gpunet

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
EXAMPLES = [code for code in BLOCKS if "Primitive(" not in code]  # that one is a sketch


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in EXAMPLES:
        exec(compile(code, str(README), "exec"), names)
    assert len(EXAMPLES) == 5
    assert (tmp_path / "digits.keras").stat().st_size > 0
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", capsys.readouterr().out)[1])
    assert accuracy > 0.95


def test_tables_are_made_from_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(README.parent / "tests" / "benchmarks"))
    sys.modules.pop("record", None)
    import record

    assert record.with_tables(TEXT) == TEXT


@pytest.mark.parametrize("path", re.findall(r"`((?:gpunet|cuda_kernels|tests)/[\w/.]+)`", TEXT))
def test_paths_exist(path):
    assert (README.parent / path).exists()


def test_rooms_are_all_listed():
    package = Path(gpunet.__file__).parent
    rooms = {p.stem for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    listed = set(re.findall(r"`(\w+)`", TEXT.split("| floor |")[1].split("\n\n")[0]))
    assert rooms - {"__init__", "__main__"} <= listed
