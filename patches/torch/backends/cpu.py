"""The CPU's vector instructions."""


def get_cpu_capability():
    """"AVX512", "AVX2" or "DEFAULT", from what the kernel says of the processor."""
    from pathlib import Path

    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return "AVX512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "DEFAULT"
