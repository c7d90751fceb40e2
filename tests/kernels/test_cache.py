"""Compiled kernels on disk: found again, private, made again when damaged, safe to race for."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gpunet.backend import emulator
from gpunet.backend.emulator import cache, toolchain
from gpunet.errors import DeviceError, KernelError

TEXT = '#line 1 "k.cu"\n__global__ void set(int* x) { x[0] = 42; }\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache for kernels; the runtime and the parsed headers stay in their own."""
    emulator.loader._runtime()
    toolchain._prelude()
    monkeypatch.setenv("GPUNET_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def compilations(monkeypatch):
    """What the compiler was asked to make, in order."""
    asked, run = [], subprocess.run

    def noting(command, **options):
        if "--version" not in command:
            asked.append(options["input"])
        return run(command, **options)

    monkeypatch.setattr(toolchain.subprocess, "run", noting)
    return asked


def run_set(text=TEXT):
    x = np.zeros(1, "i4")
    emulator.Function(text, "set")((1, 1, 1), (1, 1, 1), (x,))
    return x[0]


def test_an_equal_source_is_compiled_once(folder, compilations):
    assert toolchain.build_kernel(TEXT, "set") == toolchain.build_kernel(TEXT, "set")
    assert len(compilations) == 1
    assert run_set(TEXT.replace("42", "43")) == 43
    assert len(compilations) == 2


def test_other_flags_headers_or_compilers_are_other_entries(folder, compilations, monkeypatch):
    paths = [toolchain.build_kernel(TEXT, "set")]
    monkeypatch.setattr(toolchain, "FLAGS", (*toolchain.FLAGS, "-O1"))
    paths.append(toolchain.build_kernel(TEXT, "set"))
    monkeypatch.setattr(toolchain, "_headers", lambda: "an edited header")
    paths.append(toolchain.build_kernel(TEXT, "set"))
    monkeypatch.setattr(toolchain, "_version", lambda: "another compiler")
    paths.append(toolchain.build_kernel(TEXT, "set"))
    assert len(set(paths)) == len(compilations) == 4


@pytest.mark.parametrize("damage", ["cut", "altered", "emptied"])
def test_a_damaged_entry_is_made_again(folder, compilations, damage):
    path = toolchain.build_kernel(TEXT, "set")
    data = path.read_bytes()
    wrong = {"cut": data[:5000], "altered": data[:-1] + b"x", "emptied": b""}[damage]
    path.write_bytes(wrong)
    assert toolchain.build_kernel(TEXT, "set").read_bytes() == data
    assert len(compilations) == 2
    assert run_set() == 42


def test_the_folder_is_private(folder):
    path = toolchain.build_kernel(TEXT, "set")
    assert path.is_relative_to(folder)
    for private in (path.parent, path.parent.parent):
        assert private.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half made is left


def test_a_folder_that_others_may_write_is_refused(folder):
    cache.cache_dir().chmod(0o777)
    with pytest.raises(DeviceError, match=r"writable by nobody else.*mode='0o777'"):
        run_set()


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPUNET_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="Set GPUNET_CACHE_DIR to a folder that can be written"):
        run_set()


def test_the_default_folder_follows_the_platform(monkeypatch):
    monkeypatch.delenv("GPUNET_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("LOCALAPPDATA", "/l")
    assert str(cache._root()) == "/x/gpunet"
    monkeypatch.setattr(cache.sys, "platform", "win32")
    assert str(cache._root()) == "/l/gpunet"
    monkeypatch.delenv("LOCALAPPDATA")
    assert cache._root() == cache.Path.home() / ".cache" / "gpunet"


def test_a_failed_compilation_leaves_nothing_behind(folder):
    with pytest.raises(KernelError):
        toolchain.build_kernel("nonsense", "set")
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_processes_may_race(folder):
    code = (
        "import numpy as np\n"
        "from gpunet.backend import emulator\n"
        "x = np.zeros(1, 'i4')\n"
        f"emulator.Function({TEXT!r}, 'set')((1, 1, 1), (1, 1, 1), (x,))\n"
        "assert x[0] == 42\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy()) for _ in range(4)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    assert run_set() == 42


def test_cxx_names_the_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "env -u NOTHING g++")
    assert toolchain.compiler.__wrapped__() == ("env", "-u", "NOTHING", "g++")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert toolchain.compiler.__wrapped__() != ("no-such-compiler",)
