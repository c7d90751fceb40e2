// What kernels include cuda_bf16.h for is in emulator.h, which they get without asking.
#pragma once
