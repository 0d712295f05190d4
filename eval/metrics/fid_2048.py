"""FID with Inception's last features."""

from __future__ import annotations

from eval.metrics.fid import Fid


class Fid2048(Fid):
    """FID with the 2048 features of the last pool, as most papers report it; no interval, it takes minutes a resample."""

    name, title = "fid_2048", "FID 2048"
    needs = ("fid2048",)
    minimum = 2048
    resampled = False
