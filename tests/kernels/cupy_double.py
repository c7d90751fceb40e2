"""A stand-in for CuPy: notes what is compiled and launched; its arrays are NumPy arrays inside."""

import types

import numpy as np


class CudaError(RuntimeError):
    """An error that CUDA reports; 700 is a bad address."""

    def __init__(self, status):
        super().__init__(f"CUDA error {status}")
        self.status = status


def make():
    """Returns a new one; its attributes say what the device has, and `fails` what it does wrong."""
    fake = types.ModuleType("cupy")
    fake.current, fake.modules, fake.calls, fake.fails = 0, [], [], None
    fake.static_shared, fake.max_threads, fake.optin = 0, 1024, 227 * 1024

    class Device:
        def __init__(self, number):
            self.id = number
            self.attributes = {"MaxSharedMemoryPerBlockOptin": fake.optin}

        def __repr__(self):
            return f"<CUDA Device {self.id}>"

        def __enter__(self):
            self.before, fake.current = fake.current, self.id

        def __exit__(self, *error):
            fake.current = self.before

    class Array:
        def __init__(self, array, device=0):
            self.array, self.device, self.dtype = array, Device(device), array.dtype
            self.flags, self.ndim, self.shape = array.flags, array.ndim, array.shape
            self.size, self.data = array.size, types.SimpleNamespace(ptr=array.ctypes.data)
            self.strides = array.strides

        def fill(self, value):
            self.array.fill(value)

        def __getitem__(self, index):
            return Array(self.array[index], self.device.id)

        def reshape(self, *shape):
            return Array(self.array.reshape(*shape), self.device.id)

        def copy(self, order):
            return Array(self.array.copy(order), self.device.id)

        def get(self):
            if fake.fails:
                raise fake.fails
            return self.array

        __cuda_array_interface__ = property(lambda self: {})

    class Function:
        """Calls only, as CuPy's compiled class: attributes belong to the RawKernel."""

        __slots__ = ()

        def __call__(self, grid, block, args, shared):
            if fake.fails:
                raise fake.fails
            fake.calls.append((fake.current, grid, block, args, shared))

    class RawKernel:
        max_dynamic_shared_size_bytes = 0
        kernel = Function()
        max_threads_per_block = property(lambda self: fake.max_threads)
        shared_size_bytes = property(lambda self: fake.static_shared)

    class RawModule:
        def __init__(self, **options):
            fake.modules.append(options)

        def get_function(self, name):
            if "gibberish" in fake.modules[-1]["code"]:
                raise CompileException("main.cu(4): error: gibberish is undefined")
            return RawKernel()

    class CompileException(Exception):
        pass

    class OutOfMemoryError(MemoryError):
        pass

    class DriverError(CudaError):
        pass

    class Pool:
        freed = 0

        def free_all_blocks(self):
            self.freed += 1

        def used_bytes(self):
            return 3 * 2**20

        def total_bytes(self):
            return 4 * 2**20

    fake.pool = Pool()
    fake.get_default_memory_pool = lambda: fake.pool
    fake.ndarray, fake.RawModule = Array, RawModule
    fake.empty = lambda shape, dtype: Array(np.empty(shape, dtype), fake.current)
    fake.cuda = types.SimpleNamespace(
        Device=Device,
        runtime=types.SimpleNamespace(
            getDevice=lambda: fake.current,
            CUDARuntimeError=CudaError,
            memGetInfo=lambda: (2**20, 16 * 2**20),
        ),
        driver=types.SimpleNamespace(CUDADriverError=DriverError),
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=types.SimpleNamespace(CompileException=CompileException),
    )
    return fake
