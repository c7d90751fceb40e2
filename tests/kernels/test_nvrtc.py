"""Every kernel becomes machine code for real GPUs, spills no registers, and says what it does."""

import re
from pathlib import Path

import pytest

from gpunet.backend import nvrtc
from gpunet.backend.kernels import assemble, kernel_dir
from gpunet.errors import DeviceError, KernelError
from tests.kernels.instantiations import INSTANTIATIONS, instantiations

ARCHITECTURES = ["sm_80", "sm_90"]
HEADER_KEYS = ("Shapes", "Launch", "Bytes", "Numerics", "Source")
FILES = sorted(path.name for path in kernel_dir().glob("*.cu"))
GLOBAL = re.compile(r"__global__\s+(?:void\s+|__launch_bounds__\s*\([^()]*\)\s*)*(\w+)")
OWN = ["float", "double", "__half", "__nv_bfloat16", "bool", "signed char", "unsigned char"]
OWN += ["short", "unsigned short", "int", "unsigned int", "long long", "unsigned long long"]


def check(text, names, architecture):
    cubin = nvrtc.compile_cubin(text, names, architecture)
    assert cubin.image.startswith(b"\x7fELF")
    assert set(cubin.kernels) == set(names)
    spilled = {name: usage for name, usage in cubin.kernels.items() if usage.spills}
    assert not spilled, "write `__launch_bounds__(BLOCK, 1)`, or let a thread do less at a time"


@pytest.mark.thorough
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_every_instantiation_compiles_without_spills(file, architecture):
    text = assemble((kernel_dir() / file).read_text(), file)
    check(text, instantiations()[file], architecture)


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_compiles_without_spills(file):
    """One instantiation of each kernel, the one with the longest name: most of its options."""
    longest = {name.split("<")[0]: name for name in sorted(instantiations()[file], key=len)}
    text = assemble((kernel_dir() / file).read_text(), file)
    check(text, sorted(longest.values()), "sm_90")


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_is_instantiated(file):
    written = set(GLOBAL.findall((kernel_dir() / file).read_text()))
    compiled = {name.split("<")[0] for name in instantiations().get(file, ())}
    missing = written - compiled
    assert not missing, f"no row of tests/ops/cases launches {missing}; see instantiations.py"


def test_every_listed_file_exists():
    assert {file for file, _, _ in INSTANTIATIONS} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_has_a_header(file):
    """The comment right above each `__global__` (or its `template` line) has all keys."""
    lines = (kernel_dir() / file).read_text().splitlines()
    found = [i for i, line in enumerate(lines) if "__global__" in line and "//" not in line]
    assert found, f"{file} holds no kernel"
    for number in found:
        missing = missing_keys(lines, number)
        assert not missing, f"{file} line {number + 1}: the comment above lacks {missing}"


def missing_keys(lines, number):
    """What the comment above a kernel lacks; between them stand only lines of its declaration."""
    above = number - 1
    while above >= 0 and re.match(r"\s*(template\b|typename\b|class\b|int\b|bool\b)", lines[above]):
        above -= 1
    comment = []
    while above >= 0 and lines[above].startswith("//"):
        comment.append(lines[above])
        above -= 1
    text = "\n".join(comment)
    return [key for key in HEADER_KEYS if not re.search(rf"^// {key}\b", text, re.MULTILINE)]


def test_the_header_check_sees_what_is_missing():
    good = [f"// {key}  ..." for key in HEADER_KEYS]
    kernel = ["template <typename T>", "__global__ void k(T* x) {}"]
    assert missing_keys(good + kernel, len(good) + 1) == []
    assert missing_keys(good[1:] + kernel, len(good)) == ["Shapes"]
    assert missing_keys([*good, "", *kernel], len(good) + 2) == list(HEADER_KEYS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_common_headers_compile_for_every_type(architecture):
    text = assemble(Path(__file__).with_name("common.cu").read_text(), "common.cu")
    names = ["uniform", "words", "warp_sums<32>", "warp_sums<8>"]
    names += [f"block_sums<{t}, {block}>" for t in OWN for block in (32, 256, 1024)]
    names += [f"scale_vectors<{t}, {index}>" for t in OWN for index in ("int", "long long")]
    names += [f"block_extremes<{t}, 256, {op}>" for t in OWN for op in ("Max", "Min")]
    check(text, names, architecture)


HALF_CONVERSIONS = [
    f"convert<{source}, {target}>"
    for half in ("__half", "__nv_bfloat16")
    for source, target in ((half, "float"), ("float", half), ("double", half))
]
ATOMICS = [
    *(f"atomic_adds<{t}>" for t in ("int", "unsigned", "unsigned long long", "float", "double")),
    *("atomic_adds<__half>", "atomic_adds<__nv_bfloat16>", "atomic_words"),
    *("atomic_pairs<__half2>", "atomic_pairs<__nv_bfloat162>"),
    *(f"atomic_orders<{t}>" for t in ("int", "unsigned", "long long", "unsigned long long")),
]
TEST_KERNELS = {
    "blocks.cu": [
        *("coordinates", "rotate_left<true>", "rotate_plain<__half>", "prefix_sum", "leave_early"),
        *("read_unwritten<float>", "count_and_or", "sleep_for_flag", "fail_in_thread", "greet"),
        "globals",
    ],
    "scalars.cu": [
        *HALF_CONVERSIONS,
        *ATOMICS,
        *("arithmetic<__half>", "arithmetic<__nv_bfloat16>", "through_helpers<__half>"),
        *("functions<float>", "functions<double>", "fast_functions", "inverse_erf<double>"),
        *("bit_functions", "wide_products", "vector_types"),
        *("half_functions<__half, __half2>", "half_functions<__nv_bfloat16, __nv_bfloat162>"),
    ],
    "warps.cu": [
        *("shuffles<float, 8>", "shuffles<__half, 32>", "shuffles<long long, 32>"),
        *("halves", "meet", "votes", "matches", "reductions<int>", "reductions<unsigned>"),
    ],
}


@pytest.mark.parametrize("file", TEST_KERNELS)
def test_the_emulators_test_kernels_are_real_cuda(file):
    """What the emulator accepts in its own tests, NVRTC accepts."""
    text = Path(__file__).with_name(file).read_text()
    cubin = nvrtc.compile_cubin(assemble(text, file), TEST_KERNELS[file], "sm_90")
    assert set(cubin.kernels) == set(TEST_KERNELS[file])


def test_usage_of_registers_and_memory():
    text = """
    __global__ void tile(float* x) {
      __shared__ float tile[1000];
      tile[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      x[threadIdx.x] = tile[999 - threadIdx.x];
    }
    __global__ void __launch_bounds__(1024, 2) spill(const float* x, float* y) {
      float v[64];
      #pragma unroll
      for (int i = 0; i < 64; ++i) v[i] = x[i * 1024 + threadIdx.x];
      #pragma unroll
      for (int i = 0; i < 64; ++i) v[i] += v[(i + 7) % 64] * v[(i * 5) % 64];
      #pragma unroll
      for (int i = 0; i < 64; ++i) y[i * 1024 + threadIdx.x] = v[i];
    }"""
    cubin = nvrtc.compile_cubin(text, ["tile", "spill"])
    tile, spill = cubin.kernels["tile"], cubin.kernels["spill"]
    assert (tile.shared, tile.spills) == (4000, 0) and 4 <= tile.registers <= 32
    assert spill.shared == 0 and spill.registers <= 32 and spill.spills > 100
    assert (cubin.spills, cubin.shared) == (spill.spills, 4000)
    assert cubin.registers == max(tile.registers, spill.registers)


def test_errors_name_file_and_line():
    text = assemble('#include "common.cuh"\n\n__global__ void k() { gibberish; }', "k.cu")
    with pytest.raises(KernelError, match=r"k.cu\(3\): error: identifier \"gibberish\""):
        nvrtc.compile_cubin(text, ["k"])
    with pytest.raises(KernelError, match="sm_12345"):
        nvrtc.compile_cubin("__global__ void k() {}", ["k"], "sm_12345")
    with pytest.raises(KernelError, match="nothing"):
        nvrtc.compile_cubin("__global__ void k() {}", ["nothing"])


def test_missing_wheels_are_named(monkeypatch):
    monkeypatch.setattr(nvrtc, "_nvidia_dirs", lambda *names: [])
    with pytest.raises(DeviceError, match="nvidia-cuda-nvrtc"):
        nvrtc._nvrtc.__wrapped__()
    with pytest.raises(DeviceError, match="nvidia-cuda-runtime"):
        nvrtc.include_dirs.__wrapped__()


def test_no_kernel_includes_a_slow_or_missing_header():
    allowed = {"cuda_fp16.h", "cuda_bf16.h"}
    for path in kernel_dir().glob("*.cu*"):
        used = set(re.findall(r"#\s*include\s*<([^>]+)>", path.read_text()))
        assert used <= allowed, f"{path.name} includes {used - allowed}"
