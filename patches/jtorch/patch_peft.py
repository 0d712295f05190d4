"""peft: nothing is patched. On torch on Jittor these work as released: LoRA on linear layers, convolutions and
``to_out.0``, DoRA, merging, several adapters at once.

tests/reference and tests/patches/test_golden_models.py compare them with PyTorch. Kept for the check of the version.
"""

VERSIONS = "==0.10.0"
PATCHES: list[tuple[str, str]] = []


def apply(module):
    """Leave the module as it is."""
