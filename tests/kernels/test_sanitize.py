"""`gpunet.testing.sanitize`: what it reports, what it does not, and what it refuses."""

import importlib

import numpy as np
import pytest

from gpunet.backend.emulator import sanitizers, toolchain
from gpunet.backend.kernels import Kernel
from gpunet.errors import ArgumentError, DeviceError, KernelError
from gpunet.testing import sanitize
from tests.kernels.test_seeded_bugs import need


@pytest.fixture(autouse=True)
def sanitizers_or_skip():
    need("address", "thread")


def report(text, name="k", *, args, grid=1, block=32, **options):
    """The error's lines, the first one being the summary."""
    with pytest.raises(KernelError) as error:
        kernel = Kernel('#include "common.cuh"\n' + text, name, file="k.cu")
        sanitize(kernel, grid=grid, block=block, args=args, **options)
    return str(error.value).splitlines()


def floats(n, value=0.0):
    return np.full(n, value, "f4")


def test_a_race_names_both_accesses():
    text = """__global__ void k(float* y) {
      SHARED_ARRAY(float, tile, 32);
      tile[threadIdx.x] = 1;
      y[threadIdx.x] = tile[31 - threadIdx.x];
    }"""
    summary, what, first, second = report(text, args=(floats(32),))
    assert summary == "`k`: ThreadSanitizer found 1 problem."
    assert what == "race: shared memory"
    accesses = sorted([first.split(" by ")[0].strip(), second.split(" by ")[0].strip()])
    assert accesses == ["read of 4 bytes at k.cu line 5", "write of 4 bytes at k.cu line 4"]
    threads = {int(line.rpartition("thread (")[2].partition(",")[0]) for line in (first, second)}
    assert "by block (0, 0, 0), thread (" in first and sum(threads) == 31


def test_all_kinds_of_shared_memory_are_watched():
    text = """__global__ void k(float* y) {
      __shared__ float plain[32];
      GPUNET_SHARED(float, dynamic);
      plain[threadIdx.x] = dynamic[threadIdx.x] = 1;
      y[threadIdx.x] = plain[31 - threadIdx.x];
      y[threadIdx.x] += dynamic[31 - threadIdx.x];
    }"""
    lines = report(text, args=(floats(32),), shared=128)
    assert lines[0].endswith("found 2 problems.") and lines.count("race: shared memory") == 2


def test_blocks_share_no_memory_but_global():
    """The second block gets the first one's shared memory; that is no race."""
    text = """#include "common.cuh"
    __global__ void k(float* y, int* total) {
      SHARED_ARRAY(float, tile, 32);
      __shared__ float plain[32];
      GPUNET_SHARED(float, dynamic);
      tile[threadIdx.x] = plain[threadIdx.x] = dynamic[threadIdx.x] = threadIdx.x;
      __syncthreads();
      const int i = 31 - threadIdx.x;
      y[blockIdx.x * 32 + threadIdx.x] = tile[i] + plain[i] + dynamic[i];
      atomicAdd(total, 1);
    }"""
    args = (floats(96), np.zeros(1, "i4"))
    sanitize(Kernel(text, "k"), grid=(3, 1), block=32, args=args, shared=128)
    assert (args[0] == 0).all() and args[1][0] == 0  # it worked on copies


def test_a_race_between_blocks_names_argument_and_element():
    text = "__global__ void k(const float* x, float* y) { y[2] = x[blockIdx.x]; }"
    args = (floats(3), floats(5))
    _, what, first, second = report(text, args=args, grid=3, block=1)
    assert what == "race: argument 1 (float32, shape (5,)), element 2"
    assert "k.cu line 2 by block (1, 0, 0), thread (0, 0, 0)" in first
    assert "k.cu line 2 by block (0, 0, 0), thread (0, 0, 0)" in second


def test_atomics_and_plain_accesses_do_not_go_together():
    text = """__global__ void k(int* y) {
      if (threadIdx.x == 0) y[0] = 5;
      else atomicAdd(y, 1);
    }"""
    lines = report(text, args=(np.zeros(1, "i4"),))
    assert any("atomic" in line for line in lines) and "race: argument 0" in lines[1]


@pytest.mark.parametrize(
    ("order", "sound"),
    [("__syncwarp();", True), ("__shfl_sync(kFullMask, 1, 0);", False), ("", False)],
)
def test_what_orders_the_lanes_of_a_warp(order, sound):
    text = f"""#include "common.cuh"
    __global__ void k(float* y) {{
      SHARED_ARRAY(float, tile, 32);
      tile[threadIdx.x] = 1;
      {order}
      y[threadIdx.x] = tile[31 - threadIdx.x];
    }}"""
    if sound:
        sanitize(Kernel(text, "k"), grid=1, block=32, args=(floats(32),))
    else:
        assert "race: shared memory" in report(text, args=(floats(32),), tools=["thread"])


def test_every_block_needs_its_own_fence():
    text = """__global__ void k(float* sums, unsigned* ended, float* y) {
      sums[blockIdx.x] = 1;
      if (blockIdx.x == 0) __threadfence();
      if (atomicAdd(ended, 1u) < 2) return;
      y[0] = sums[0] + sums[1] + sums[2];
    }"""
    args = (floats(3), np.zeros(1, "u4"), floats(1))
    lines = report(text, args=args, grid=3, block=1, tools=["thread"])
    assert lines[1] == "race: argument 0 (float32, shape (3,)), element 1"


def test_a_syncwarp_orders_its_own_warp_only():
    text = """__global__ void k(float* y) {
      SHARED_ARRAY(float, tile, 64);
      tile[threadIdx.x] = 1;
      __syncwarp();
      y[threadIdx.x] = tile[(threadIdx.x + 1) % 64];
    }"""
    assert "race: shared memory" in report(text, args=(floats(64),), block=64)


@pytest.mark.parametrize(
    ("index", "where"),
    [
        ("threadIdx.x + 7", "0 bytes after the end of argument 0 (float32, shape (7,))"),
        ("threadIdx.x + 9", "8 bytes after the end of argument 0"),
        ("threadIdx.x - 3ll", "before the start of argument 0"),
    ],
)
def test_out_of_bounds(index, where):
    text = f"__global__ void k(float* y) {{ y[{index}] = 1; }}"
    memory = floats(8)
    _, what, access = report(text, args=(memory[1:],), block=1)  # 4 bytes off any multiple
    assert what.startswith("out of bounds: ") and where in what
    assert access.strip() == "write of 4 bytes at k.cu line 2 by block (0, 0, 0), thread (0, 0, 0)"


@pytest.mark.parametrize(
    ("declaration", "what"),
    [
        ("SHARED_ARRAY(float, tile, 32);", "0 bytes after the end of 128 bytes of shared memory"),
        ("GPUNET_SHARED(float, tile);", "0 bytes after the end of 128 bytes of shared memory"),
        ("__shared__ float tile[32];", "0 bytes after the end of `tile`"),
    ],
)
def test_out_of_bounds_of_shared_memory(declaration, what):
    text = f"""__global__ void k(float* y) {{
      {declaration}
      float* at = tile;
      at[threadIdx.x + 1] = y[threadIdx.x];
    }}"""
    lines = report(text, args=(floats(32),), shared=128, tools=["address"])
    assert lines[1] == f"out of bounds: {what}"
    assert lines[2].endswith("k.cu line 5 by block (0, 0, 0), thread (31, 0, 0)")


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("y[0] = reinterpret_cast<const float4*>(y + 1)->x;", "misaligned access: "),
        (
            "y[0] = n * (2 + (int)threadIdx.x);",
            "integer overflow: signed integer overflow: 1073741824 * 2",
        ),
        ("y[0] = n / (int)threadIdx.x;", "division by zero: "),
    ],
)
def test_undefined_behaviour(statement, kind):
    text = f"__global__ void k(float* y, int n) {{ {statement} }}"
    lines = report(text, args=(floats(8), np.int32(2**30)), block=1)
    assert lines[1].startswith(kind)
    assert lines[2].strip() == "computed at k.cu line 2 by block (0, 0, 0), thread (0, 0, 0)"


def test_a_fault_in_a_header_names_the_caller_too():
    text = "__global__ void k(float* y) {\n y[0] = load_vec<4>(y + 4)[0];\n}"
    lines = report(text, args=(floats(7),), block=1)
    assert "common.cuh line " in lines[2] and ", called from k.cu line 3 by" in lines[2]


def test_arguments_may_overlap():
    memory = floats(40)
    text = """__global__ void k(const float* x, float* y, const float* z) {
      if (threadIdx.x < 16) y[threadIdx.x] = 2 * x[threadIdx.x] + (z ? 1 : 0);
    }"""
    sanitize(Kernel(text, "k"), grid=1, block=32, args=(memory[:16], memory[:16], None))
    lines = report(text.replace("2 * x", "2 * (x + 4)"), args=(memory[:20], memory[:16], None))
    assert lines[1].startswith("race: argument 0 (float32, shape (20,))")


def test_a_view_may_stand_for_the_whole_array():
    text = "__global__ void k(float* first) { first[threadIdx.x * 2] = 1; }"
    memory = floats((4, 4))
    kernel, launch = Kernel(text, "k"), {"grid": 1, "block": 7, "args": (memory[0, 3:4],)}
    sanitize(kernel, **launch, whole=True)
    with pytest.raises(KernelError, match=r"after the end of argument 0 \(float32, shape \(1,\)"):
        sanitize(kernel, **launch)
    lines = report(text, args=launch["args"], block=8, whole=True)
    assert lines[1].endswith("4 bytes after the end of argument 0 (float32, shape (4, 4))")


def test_an_error_of_the_kernel_itself():
    text = "__global__ void k(float* y) { if (threadIdx.x < 8) __syncthreads(); }"
    with pytest.raises(KernelError, match=r"8 threads at __syncthreads .* line 1"):
        sanitize(Kernel(text, "k"), grid=1, block=32, args=(floats(1),))


def test_bad_launches_are_refused(monkeypatch):
    kernel = Kernel("__global__ void k(float* y) { y[0] = 0; }", "k")
    y = floats(1)
    with pytest.raises(ArgumentError, match=r"1 to 4096 threads.*grid=100"):
        sanitize(kernel, grid=100, block=64, args=(y,))
    with pytest.raises(ArgumentError, match="tools"):
        sanitize(kernel, grid=1, block=1, args=(y,), tools=("memory",))
    with pytest.raises(KernelError, match="argument 0: expected a C-contiguous"):
        sanitize(kernel, grid=1, block=1, args=(y.astype("f8"),))
    with pytest.raises(KernelError, match="does not compile"):
        sanitize(Kernel("__global__ void k() { gibberish; }", "k"), grid=1, block=1, args=())


def test_time_is_up():
    text = "__global__ void k(volatile int* y) { while (*y == 0) {} }"
    with pytest.raises(KernelError, match=r"did not end within 0.5 seconds"):
        sanitize(
            Kernel(text, "k"),
            grid=1,
            block=1,
            args=(np.zeros(1, "i4"),),
            tools=["address"],
            timeout=0.5,
        )


def test_a_kernel_by_file_and_name(monkeypatch):
    monkeypatch.setattr(importlib.import_module("gpunet.testing.sanitize"), "read", TEXTS.get)
    sanitize(("two.cu", "set", ("float", 2)), grid=1, block=1, args=(floats(1),))
    with pytest.raises(KernelError, match=r"set<float, 2>.*\n.*\n.* at two.cu line 2 by"):
        sanitize(("two.cu", "set", ("float", 2)), grid=2, block=1, args=(floats(1),))


TEXTS = {"two.cu": "template <typename T, int N>\n__global__ void set(T* x) { x[0] = N; }"}


def test_a_compiler_without_sanitizers(monkeypatch, tmp_path):
    """A stand-in that knows no -fsanitize, as the compilers of some distributions."""
    fake = tmp_path / "g++"
    real = " ".join(toolchain.compiler())
    fake.write_text(
        "#!/bin/sh\n"
        'for option in "$@"; do\n'
        '  if [ "$option" = -fsanitize=thread ]; then\n'
        '    echo "/usr/bin/ld: cannot find libtsan_preinit.o: No such file" >&2; exit 1\n'
        "  fi\n"
        "done\n"
        f'exec {real} "$@"\n'
    )
    fake.chmod(0o700)
    monkeypatch.setenv("CXX", str(fake))
    toolchain.compiler.cache_clear()
    toolchain._version.cache_clear()
    try:
        kernel = Kernel("__global__ void k(float* y) { y[0] = 0; }", "k")
        with pytest.raises(DeviceError, match=r"no ThreadSanitizer here. Install it"):
            sanitize(kernel, grid=1, block=1, args=(floats(1),), tools=["thread"])
    finally:
        monkeypatch.undo()
        toolchain.compiler.cache_clear()
        toolchain._version.cache_clear()


def stand_in(monkeypatch, tmp_path, script):
    """Puts a shell script in the place of the program that runs kernels."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sanitizers, "_program", lambda tool: program)
    return Kernel("__global__ void k(float* y) { y[0] = 0; }", "k")


def test_a_sanitizer_that_does_not_work(monkeypatch, tmp_path):
    kernel = stand_in(monkeypatch, tmp_path, "echo no such thing >&2; exit 5")
    with pytest.raises(DeviceError, match=r"AddressSanitizer does not work here: status 5"):
        sanitize(kernel, grid=1, block=1, args=(floats(1),))


def test_a_report_in_other_words_is_not_lost(monkeypatch, tmp_path):
    said = "WARNING: ThreadSanitizer: something new; gpunet: done"
    kernel = stand_in(monkeypatch, tmp_path, f'echo "gpunet: buffer 0x1000\n{said}" >&2')
    with pytest.raises(KernelError, match="something new"):
        sanitize(kernel, grid=1, block=1, args=(floats(1),), tools=["thread"])


def test_libraries_at_unexpected_addresses(monkeypatch, tmp_path):
    """Then it runs again, without random addresses."""
    script = (
        'if [ "$(cat /proc/self/personality)" = 00040000 ]; then\n'
        '  echo "gpunet: buffer 0x1000\ngpunet: done" >&2\n'
        'else echo "FATAL: ThreadSanitizer: unexpected memory mapping" >&2; exit 66; fi'
    )
    kernel = stand_in(monkeypatch, tmp_path, script)
    try:
        sanitize(kernel, grid=1, block=1, args=(floats(1),), tools=["thread"])
    except DeviceError as error:  # where containers forbid it
        assert "does not work here" in str(error)
