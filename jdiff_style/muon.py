"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one, and AdamW for all that is not a matrix.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the size of the update follows Liu et al.
2025, "Muon is scalable for LLM training", section 2.2, so that rates and weight decay are those of AdamW. A convolution's
weight is the matrix out × (in · height · width). All singular values of an update are equal, so what few pictures ask for
is learnt as fast as what all ask for.
"""

from __future__ import annotations

from typing import Any, Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steepest at 0, singular values end between 0.7 and 1.2
PLAN = (2, 2, 1)  # five steps in all


class Muon(torch.optim.AdamW):
    """Parameter groups with `muon: True` get Muon's update, the others AdamW's.

    All groups take AdamW's options; Muon's take `momentum` (Nesterov's, default 0.95) too and use no `betas` and no `eps`.
    Matrices are made orthogonal in `dtype`, for which bfloat16 is enough (Jordan et al.). Weight decay is decoupled in both.
    The state of a matrix is a tensor of its shape, `momentum_buffer`.
    """

    param_groups: list[dict[str, Any]]

    def __init__(
        self, params: Iterable[dict[str, Any]], momentum: float = 0.95, dtype: torch.dtype = torch.float32, **options: Any
    ):
        self.dtype = dtype
        groups = [{"muon": False, "momentum": momentum, **group} for group in params]
        for group in groups:
            if group["muon"] and any(p.dim() < 2 for p in group["params"]):
                raise ValueError("Muon's update is for matrices and convolutions; put vectors into a group of their own")
        super().__init__(groups, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        everything = self.param_groups
        self.param_groups = [group for group in everything if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = everything
        for group in everything:
            if group["muon"]:
                self._step_matrices(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        chosen = [p for p in group["params"] if p.grad is not None]
        updates = []
        for p in chosen:
            state = self.state[p]
            if "momentum_buffer" not in state:
                # AdamW looks for a count of steps in every state that it loads; nothing here depends on it.
                state.update(step=torch.tensor(0.0), momentum_buffer=torch.zeros_like(p))
            buffer = state["momentum_buffer"]
            buffer.lerp_(p.grad, 1.0 - group["momentum"])
            updates.append(p.grad.lerp(buffer, group["momentum"]).reshape(len(p), -1))
        # Matrices of one shape go through the iteration together.
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, update in enumerate(updates):
            shapes.setdefault(tuple(update.shape), []).append(place)
        for shape, places in shapes.items():
            done = orthogonalised(torch.stack([updates[place] for place in places]), self.dtype)
            # The root of the mean square is then about 0.2, as AdamW's is.
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            for update, place in zip(done, places):
                p = chosen[place]
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape), alpha=-rate)


def orthogonalised(matrices: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The matrices (batch × rows × columns) with all singular values near 1: the quintic Newton-Schulz iteration in `dtype`.

    A step multiplies X by a polynomial of X Xᵀ, and those commute. So two steps share one X Xᵀ: the second one's is
    computed from the first's, which for long matrices is much less work. With more than two, bfloat16 loses the smallest
    singular values of square matrices.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)).to(dtype)
    a, b, c = COEFFICIENTS
    identity = torch.eye(x.shape[1], dtype=dtype, device=x.device)
    for steps in PLAN:
        gram = x @ x.transpose(1, 2)
        factor = a * identity + b * gram + c * (gram @ gram)
        if steps == 2:
            gram = factor @ gram @ factor
            factor = (a * identity + b * gram + c * (gram @ gram)) @ factor
        x = factor @ x
    x = x.to(matrices.dtype)
    return x.transpose(1, 2) if tall else x
