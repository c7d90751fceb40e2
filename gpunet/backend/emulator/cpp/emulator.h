// The host side of CUDA C++: included before every kernel that the emulator compiles.
//
// A kernel becomes a plain function; its built-in variables are globals that the loop in entry.h
// sets before each thread; whatever waits for other threads calls the runtime (interface.h).
// Nothing includes this file: it is compiled once, and kernels start from the result.

#include "intrinsics.h"
#include "keywords.h"
#include "vectors.h"
#include "half.h"
#include "atomics.h"
#include "warp.h"
#include "entry.h"
