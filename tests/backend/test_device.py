"""Devices: names, the current one, and what is said of those that do not work."""

import pickle
import threading

import numpy as np
import pytest

import gpunet
from gpunet.backend import device as devices
from gpunet.backend import memory, rng
from gpunet.errors import DeviceError, DTypeError


@pytest.mark.parametrize(
    ("name", "canonical", "kind", "index"),
    [
        ("cpu", "cpu", "cpu", 0),
        ("CPU:0", "cpu", "cpu", 0),
        ("cuda", "cuda:0", "cuda", 0),
        ("gpu:3", "cuda:3", "cuda", 3),
        ("emulator", "emulator", "emulator", 0),
    ],
)
def test_names(name, canonical, kind, index):
    device = gpunet.Device(name)
    assert (device.name, device.kind, device.index) == (canonical, kind, index)
    assert gpunet.Device(canonical) is device
    assert pickle.loads(pickle.dumps(device)) is device


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", "", "cuda:-1", None])
def test_other_names_are_refused(name):
    with pytest.raises(DeviceError, match="Received: device="):
        gpunet.Device(name)


def test_blocks_nest_and_end():
    before = devices.current_device()
    with gpunet.device("emulator"):
        assert gpunet.tensor(1.0).device.name == "emulator"
        with gpunet.device("cpu"):
            assert gpunet.tensor(1.0).device.name == "cpu"
        assert devices.current_device().name == "emulator"
    assert devices.current_device() is before


def test_the_default_device_holds_in_all_threads():
    seen = []
    gpunet.set_default_device("emulator")
    try:
        thread = threading.Thread(target=lambda: seen.append(gpunet.tensor(1.0).device.name))
        thread.start()
        thread.join()
    finally:
        gpunet.set_default_device(None)
    assert seen == ["emulator"]
    assert gpunet.tensor(1.0).device.name == "cpu"


def test_a_device_that_does_not_work_says_why(monkeypatch):
    monkeypatch.setattr(devices, "cuda_status", lambda: (0, "no driver"))
    with pytest.raises(DeviceError, match="no driver"), gpunet.device("cuda:0"):
        pass
    with pytest.raises(DeviceError, match="cuda:1"):
        gpunet.set_default_device("cuda:1")
    with pytest.raises(DeviceError):
        gpunet.tensor(1.0).to("cuda:0")
    assert "cpu" in gpunet.list_devices()
    assert gpunet.list_devices("cuda") == []


def test_the_environment_names_the_default(monkeypatch):
    monkeypatch.setenv("GPUNET_DEVICE", "emulator")
    devices._first_device.cache_clear()
    try:
        assert devices.current_device().name == "emulator"
    finally:
        devices._first_device.cache_clear()


def test_arrays_are_copied_unless_told_otherwise():
    cpu = gpunet.Device("cpu")
    x = np.ones(3)
    assert not np.shares_memory(memory.as_array(x, None, cpu), x)
    assert np.shares_memory(memory.as_array(x, None, cpu, copy=False), x)
    assert memory.as_array(x, "bfloat16", cpu).dtype == "bfloat16"
    with pytest.raises(DTypeError, match="Received: dtype="):
        memory.as_array(["a"], None, cpu)


def test_the_random_stream_is_numpys_philox():
    key = np.random.Philox(key=np.array([7, 3], dtype="uint64"))
    np.testing.assert_array_equal(
        rng.uniform(7, 3, (5,)), np.random.Generator(key).random(5, dtype=np.float32)
    )
    assert not np.array_equal(rng.uniform(7, 3, (5,)), rng.uniform(7, 4, (5,)))


@pytest.mark.cuda
def test_cuda_tensors_go_there_and_back():
    x = gpunet.tensor([1.0, 2.0], device="cuda:0")
    assert (x * 2).device.name == "cuda:0"
    np.testing.assert_array_equal((x * 2).to("cpu"), [2, 4])
    np.testing.assert_array_equal(x.device.xp.asarray(x).get(), [1, 2])
