"""transformers: nothing is patched. On torch on Jittor these work as released: CLIP, DINOv2, their loading and saving,
and its own peft adapters.

tests/reference and tests/patches/test_golden_models.py compare them with PyTorch. Kept for the check of the version.
"""

VERSIONS = "==4.39.3"
PATCHES: list[tuple[str, str]] = []


def apply(module):
    """Leave the module as it is."""
