"""Models, schedulers, pipelines and LoRA on Jittor against numbers from PyTorch (tests/reference/make_golden.py)."""

import json
import pathlib

import cases
import compare
import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
#: case -> name -> thinned array; cases in the order of the file, cheap models before whole pipelines
TABLE: dict[str, dict[str, np.ndarray]] = {}
with np.load(GOLDEN / "models.npz") as _file:
    INFO = json.loads(str(_file["info"]))
    for _key in _file.files:
        if _key != "info":
            _case, _, _name = _key.partition("|")
            TABLE.setdefault(_case, {})[_name.replace("|", "/")] = _file[_key]


def _check(ours, reference):
    compare.check({name: compare.thin(name, np.asarray(values)) for name, values in ours.items()}, reference)


@pytest.fixture(scope="module")
def table():
    """The registered cases."""
    return cases.load_all()


@pytest.mark.parametrize("name", [name for name in TABLE if name != "lora_from_pytorch"])
@pytest.mark.filterwarnings("ignore")
def test_as_on_pytorch(name, table):
    try:
        ours = table[name]()
    except cases.Skip as reason:
        pytest.skip(str(reason))
    _check(ours, TABLE[name])


def test_a_lora_written_on_pytorch_loads():
    """UNet and text encoder, through diffusers' load_lora_weights."""
    from cases import exchange

    _check(exchange.load_lora(str(GOLDEN / "lora")), TABLE["lora_from_pytorch"])


def test_every_scheduler_is_covered():
    from diffusers.schedulers import KarrasDiffusionSchedulers

    from cases.schedulers import VARIANTS  # isort: skip

    covered = {kind for label, (kind, _) in VARIANTS.items() if f"scheduler_{label}" in TABLE}
    assert covered >= {s.name for s in KarrasDiffusionSchedulers}
    assert covered >= {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "LCMScheduler", "TCDScheduler"}


def test_the_golden_numbers_come_from_pytorch():
    assert "jittor" not in INFO["torch"]
    assert INFO["diffusers"] == "0.27.2" and INFO["transformers"] == "4.39.3" and INFO["peft"] == "0.10.0"
