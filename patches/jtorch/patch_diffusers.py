"""diffusers: nothing is patched. On torch on Jittor these work as released: models, pipelines, schedulers, LoRA
loading and saving, ``from_pretrained`` in every format and ``low_cpu_mem_usage``.

tests/reference and tests/patches/test_golden_models.py compare them with PyTorch. Kept for the check of the version.
"""

VERSIONS = "==0.27.2"
PATCHES: list[tuple[str, str]] = []


def apply(module):
    """Leave the module as it is."""
