"""Import-time patch of diffusers: the gated feed-forward's activation as one operation.

All else works as released: models, pipelines, schedulers, LoRA loading and saving, ``from_pretrained`` in every format
and ``low_cpu_mem_usage``. tests/reference and tests/patches/test_golden_models.py compare it with PyTorch.
"""

import functools

VERSIONS = "==0.27.2"
PATCHES = [
    (
        "diffusers.models.activations.GEGLU.forward",
        "it halves its projection, and halves are copies here; one kernel reads both halves where they lie and writes "
        "their gradient as a whole",
    ),
]


def _forward(released, gelu):
    from torch.nn._functional_activation import gated

    @functools.wraps(released)
    def forward(self, hidden_states, *args, **kwargs):
        if args or kwargs or type(self).gelu is not gelu:
            return released(self, hidden_states, *args, **kwargs)
        return gated("gelu", self.proj(hidden_states))

    forward.released = released
    return forward


def apply(module):
    """Patch ``diffusers.models.activations``; ``diffusers`` itself stays. Patching twice changes nothing."""
    if module.__name__ == "diffusers.models.activations":
        geglu = module.GEGLU
        if not hasattr(geglu.forward, "released"):
            geglu.forward = _forward(geglu.forward, geglu.gelu)
