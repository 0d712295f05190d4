"""Which NVIDIA cards there are, asked of the driver before Jittor is imported.

With CUDA compiled in and no usable card Jittor ends the process while it is imported, so this must be known before. The
driver is asked in a child process: a process that has initialised it cannot use it after a fork, and a driver that hangs
or crashes takes nothing with it. Nothing here needs a CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

#: Seconds. The first question after boot can take several, more on a machine with eight cards.
_PATIENCE = 60

# cuDeviceGetAttribute: 75 and 76 are the compute capability, 20 the compute mode, 16 the number of multiprocessors.
_QUERY = """
import ctypes, json
driver = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    code = getattr(driver, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        raise OSError((text.value or b"unknown error").decode() + f" (code {code}, {name})")
def number(name, *arguments):
    value = ctypes.c_int(0)
    call(name, ctypes.byref(value), *arguments)
    return value.value
found = {"version": 0, "devices": [], "problem": ""}
try:
    found["version"] = number("cuDriverGetVersion")
    call("cuInit", 0)
    for i in range(number("cuDeviceGetCount")):
        device = number("cuDeviceGet", i)
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t(0)
        call("cuDeviceGetName", name, 256, device)
        call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        found["devices"].append([name.value.decode(), *(number("cuDeviceGetAttribute", what, device)
                                                        for what in (75, 76, 20, 16)), memory.value])
except OSError as problem:
    found["problem"] = str(problem)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Device:
    """One card as the driver describes it; ``memory`` in bytes, ``capability`` (9, 0) for an H100."""

    name: str
    capability: tuple[int, int]
    memory: int
    prohibited: bool = False
    multiprocessors: int = 0

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name} ({major}.{minor}, {self.memory / 2**30:.0f} GiB)"


@dataclass(frozen=True)
class Driver:
    """What the driver says. ``version`` is the newest CUDA it runs, (0, 0) without a driver; ``devices`` are those that
    CUDA_VISIBLE_DEVICES leaves; ``problem`` is why there are none, "" otherwise."""

    version: tuple[int, int]
    devices: tuple[Device, ...]
    problem: str


def query() -> Driver:
    """Ask the driver, once per process and value of CUDA_VISIBLE_DEVICES. Never raises."""
    return _query(os.environ.get("CUDA_VISIBLE_DEVICES"))


@functools.cache
def _query(visible: str | None) -> Driver:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver((0, 0), (), "no NVIDIA driver (libcuda.so.1 not found)")
    try:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", _QUERY], capture_output=True, text=True, check=False,
                              timeout=_PATIENCE)
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Driver((0, 0), (), f"the NVIDIA driver did not answer within {_PATIENCE} s")
    except (OSError, ValueError):
        return Driver((0, 0), (), "asking the NVIDIA driver failed: libcuda.so.1 is broken or belongs to another driver")
    version = (found["version"] // 1000, found["version"] % 1000 // 10)
    devices = tuple(Device(name, (major, minor), memory, mode == 2, processors)
                    for name, major, minor, mode, processors, memory in found["devices"])
    problem = found["problem"]
    if problem:
        return Driver(version, (), f"the NVIDIA driver reports: {problem}")
    if not devices:
        hidden = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible!r}"
        return Driver(version, (), f"the NVIDIA driver shows no card{hidden}")
    if all(device.prohibited for device in devices):
        return Driver(version, (), f"{devices[0].name} is in compute mode \"prohibited\" (nvidia-smi -c DEFAULT)")
    return Driver(version, devices, "")
