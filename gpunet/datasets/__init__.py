"""Data sets that are shipped inside gpunet: `digits`, small enough to need no download."""

from gpunet.datasets import digits as digits
