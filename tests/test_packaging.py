"""What is published is complete: kernels, data and types are in the wheel, and nothing else is.

The wheel is made from the source distribution, so both are checked at once.
"""

import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNELS = {
    path.relative_to(ROOT / "cuda_kernels").as_posix(): path
    for path in (ROOT / "cuda_kernels").rglob("*")
    if path.is_file()
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The files of the wheel: name -> bytes."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    build = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = folder.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl"), "gpunet is pure Python: one wheel for all"
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel[name].decode())


def test_every_kernel_is_in_the_wheel_as_it_is_in_the_checkout(wheel):
    folder = "gpunet/_cuda_kernels/"
    shipped = {
        name.removeprefix(folder): data for name, data in wheel.items() if name.startswith(folder)
    }
    assert shipped == {name: path.read_bytes() for name, path in KERNELS.items()}
    assert "common.cuh" in shipped


def test_no_python_among_the_kernels():
    # A .py file there would break editable installs: hatchling refuses to move Python modules.
    assert not [name for name in KERNELS if name.endswith((".py", ".pyi", ".pyc"))]


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gpunet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not package - wheel.keys()
    assert {"gpunet/py.typed", "gpunet/datasets/digits.npz"} <= wheel.keys()


def test_nothing_but_gpunet_is_installed(wheel, metadata):
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"gpunet", f"gpunet-{metadata['Version']}.dist-info"}


def test_metadata(metadata):
    import gpunet

    assert metadata["Version"] == gpunet.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"cuda12", "cuda13", "test", "viz", "sklearn", "onnx", "tutorials"} <= extras
    always = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in always if "cupy" in line or "nvidia" in line]
