"""No test finds weights or cached features of this machine, nor leaves any."""

import pytest


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    for name, folder in {"JDIFF_CACHE": "cache", "XDG_CACHE_HOME": "xdg", "TORCH_HOME": "torch", "HF_HOME": "hub"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("JDIFF_WEIGHTS", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
