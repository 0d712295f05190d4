"""Whether Jittor is started with CUDA, and with which: decided before the import, and told by ``jdiff doctor``.

Jittor has one mode for the whole process. With CUDA compiled in it needs a usable card while it is imported, so a process
either starts Jittor without CUDA, or with it and a card.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import cuda_device, cuda_toolkit
from .cuda_toolkit import Toolkit


@dataclass(frozen=True)
class Cuda:
    """The decision.

    Attributes:
        usable: whether Jittor is started with CUDA.
        reason: one clause that says why, or with what.
        toolkit: the chosen toolkit, None when ``usable`` is false.
        architectures: what kernels are compiled for, in Jittor's words: "80 90".
    """

    usable: bool
    reason: str
    toolkit: Toolkit | None = None
    architectures: str = ""

    @property
    def version(self) -> str | None:
        """Of the toolkit: "13.0"."""
        return None if self.toolkit is None else f"{self.toolkit.version[0]}.{self.toolkit.version[1]}"


def decide() -> Cuda:
    """Whether to start Jittor with CUDA.

    ``JTORCH_CUDA=0`` or Jittor's own ``nvcc_path=""`` switch it off. It also stays off unless ``JTORCH_CUDA=1`` asks for
    it: no kernel has been run on a card yet.
    """
    if os.environ.get("JTORCH_CUDA") == "0":
        return Cuda(False, "switched off by JTORCH_CUDA=0")
    if os.environ.get("nvcc_path") == "":  # noqa: SIM112 - Jittor's name
        return Cuda(False, 'switched off by nvcc_path=""')
    driver = cuda_device.query()
    if driver.problem:
        return Cuda(False, driver.problem)
    cards = ", ".join(str(device) for device in driver.devices)
    toolkit, reasons = _choose(driver)
    if toolkit is None:
        hint = "; ".join(reasons) or "there is no nvcc"
        return Cuda(False, f"{cards}, but no CUDA toolkit fits ({hint}): pip install -r requirements-cuda.txt")
    with_what = f"{cards}, {toolkit}, cuDNN {toolkit.cudnn or 'of unknown version'}"
    if os.environ.get("JTORCH_CUDA") != "1":
        return Cuda(False, f"{with_what}, but this release computes on the CPU (JTORCH_CUDA=1 to try)")
    # Jittor's name; set by people who build for other cards than those of this machine
    asked = os.environ.get("cuda_archs")  # noqa: SIM112
    return Cuda(True, with_what, toolkit, asked or cuda_toolkit.architectures([d.capability for d in driver.devices]))


def _choose(driver: cuda_device.Driver) -> tuple[Toolkit | None, list[str]]:
    reasons = []
    for toolkit in cuda_toolkit.find_toolkits():
        reason = cuda_toolkit.unfit(toolkit, driver.version, [device.capability for device in driver.devices])
        if reason is None:
            return toolkit, reasons
        reasons.append(f"{toolkit}: {reason}")
    return None, reasons


def describe() -> list[tuple[str, str]]:
    """(label, value) of everything a person needs to see why CUDA is or is not used: the decision, driver, cards, and
    every toolkit with what is wrong with it."""
    driver = cuda_device.query()
    decision = decide()
    lines = [("CUDA", f"{'in use' if decision.usable else 'not in use'}: {decision.reason}")]
    if driver.version != (0, 0):
        lines.append(("driver", driver.problem or f"runs CUDA up to {driver.version[0]}.{driver.version[1]}"))
    lines += [("GPU", f"{i}: {device}") for i, device in enumerate(driver.devices)]
    capabilities = [device.capability for device in driver.devices]
    for toolkit in cuda_toolkit.find_toolkits():
        if driver.devices:
            wrong = cuda_toolkit.unfit(toolkit, driver.version, capabilities)
        else:
            wrong = cuda_toolkit.lacks(toolkit)
        lines.append(("toolkit", f"{toolkit}, cuDNN {toolkit.cudnn or 'not found'}{f' ({wrong})' if wrong else ''}"))
    return lines
