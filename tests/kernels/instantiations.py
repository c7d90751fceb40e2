"""Every kernel instantiation that gpunet launches: (file in `cuda_kernels/`, kernel, template).

`test_nvrtc.py` compiles each for real GPUs. A kernel that is launched with several block sizes or
dtypes needs a row for each: registers differ. Rows are grouped by file, and made by loops where
the launching rule has loops.
"""

FLOATS = ("float", "double", "__half", "__nv_bfloat16")
REALS = (*FLOATS, "int", "long long")

INSTANTIATIONS: list[tuple[str, str, tuple[str | int, ...]]] = []
