"""A save that fails, or is killed, leaves the old file as it was."""

import errno
import os
import subprocess
import sys
import time

import pytest

from gpunet.saving.atomic import atomic_file


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first", b"second, longer", b"3"):
        with atomic_file(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert files(tmp_path) == ["a.bin"]


def test_the_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new" * 1000)
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" * 1000


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_exception_in_the_block(tmp_path, kind):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(kind), atomic_file(path) as file:
        file.write(b"half")
        raise kind
    assert path.read_bytes() == b"old" and files(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_error_of_the_system(tmp_path, monkeypatch, function):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match="No space left"), atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old" and files(tmp_path) == ["a.bin"]


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "no" / "a.bin"):
        pass
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path):
        pass
    assert files(tmp_path) == []


def test_rights_and_links(tmp_path):
    path, link = tmp_path / "a.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    if os.name == "posix":  # elsewhere links need special rights
        link.symlink_to(path)
    before = path.stat().st_mode
    with atomic_file(link if os.name == "posix" else path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and not path.is_symlink()
    assert path.stat().st_mode == before


KILLED = """
import sys, time
import numpy as np
import gpunet
from gpunet.saving import hdf5

model = gpunet.Sequential([gpunet.Input((64,)), gpunet.layers.Dense(64), gpunet.layers.Dense(64)])
original = hdf5.write

def slow(file, parts):
    def slowed():
        for i, part in enumerate(parts):
            if i == 2:
                print("half way", flush=True)
                time.sleep(60)
            yield part
    original(file, slowed())

hdf5.write = slow
gpunet.saving.save_model(model, sys.argv[1]) if sys.argv[1].endswith(".keras") else (
    gpunet.saving.save_weights(model, sys.argv[1]))
"""


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_process_that_is_killed_while_it_saves(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"the old file")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "half way\n"
        time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert path.read_bytes() == b"the old file"
