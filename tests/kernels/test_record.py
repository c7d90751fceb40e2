"""What is recorded of the kernels is of these kernels, and `python -m gpunet kernels` shows it."""

import json
import re

import pytest

from gpunet import cli
from gpunet.backend.kernels import kernel_dir
from tests.kernels import record
from tests.kernels.instantiations import instantiations

RECORD = json.loads(record.PATH.read_text("utf-8"))
AGAIN = "run `python tests/kernels/record.py`"
KERNELS = [(file, kernel) for file, kernels in RECORD["kernels"].items() for kernel in kernels]


def test_the_record_is_of_these_sources():
    assert RECORD["digests"] == record.digests(), AGAIN


def test_every_kernel_is_recorded():
    launched = {(file, n.split("<")[0]) for file, names in instantiations().items() for n in names}
    assert set(KERNELS) == launched, AGAIN


def test_no_kernel_spills():
    assert not [k for f in RECORD["kernels"].values() for k, facts in f.items() if facts["spills"]]


@pytest.mark.parametrize(("file", "kernel"), KERNELS)
def test_every_kernel_can_be_shown(file, kernel):
    header = cli._header(file, kernel)
    assert re.match(rf"{kernel}\b", header) and "Numerics" in header


def test_the_listing_names_every_kernel(capsys):
    assert cli.main(["kernels"]) == 0
    text = capsys.readouterr().out
    assert f"Kernels: {len(KERNELS)}" in text and "not measured" in text
    assert all(kernel in text for _, kernel in KERNELS)


def test_one_kernel_is_shown_with_its_header(capsys):
    assert cli.main(["kernels", "softmax_cross_entropy_with_gradient"]) == 0
    text = capsys.readouterr().out
    assert "Launched by softmax_cross_entropy_with_grad." in text and "Numerics" in text
    assert str(kernel_dir() / "cross_entropy.cu") in text


def test_an_unknown_kernel_is_named(capsys):
    assert cli.main(["kernels", "nonsense"]) == 2
    assert "'nonsense'" in capsys.readouterr().err
