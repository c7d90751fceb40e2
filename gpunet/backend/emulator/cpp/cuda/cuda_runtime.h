// What kernels include cuda_runtime.h for is in emulator.h, which they get without asking.
#pragma once
