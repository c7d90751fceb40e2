"""Your own CUDA kernels as ops: a kernel, and a Python function that says what it means.

`kernel` takes CUDA C++ or a `.cu` file, `elementwise` an expression, `extern` any callable that
launches a kernel by itself, such as one of Triton, Numba or Warp. All give a `CustomKernel`.
"""

from gpunet.cuda.bench import Timing as Timing
from gpunet.cuda.check import Report as Report
from gpunet.cuda.custom import CustomKernel as CustomKernel
from gpunet.cuda.define import elementwise as elementwise
from gpunet.cuda.define import extern as extern
from gpunet.cuda.define import kernel as kernel

__all__ = ["CustomKernel", "Report", "Timing", "elementwise", "extern", "kernel"]
