"""accelerate: nothing is patched. On torch on Jittor these work as released: loading on the meta device, and what
diffusers, transformers and peft ask of it.

tests/reference and tests/patches/test_golden_models.py compare them with PyTorch. Kept for the check of the version.
"""

VERSIONS = "==0.27.2"
PATCHES: list[tuple[str, str]] = []


def apply(module):
    """Leave the module as it is."""
