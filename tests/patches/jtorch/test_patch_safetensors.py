"""PyPI's safetensors with our tensors: the same bytes as with PyTorch, every dtype, slices, shared memory.

tests/golden/weights.safetensors was written with real PyTorch (tests/golden/make_checkpoints.py).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jtorch import patch_safetensors
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, load_model, save, save_file, save_model

GOLDEN = Path(__file__).parents[2] / "golden" / "weights.safetensors"
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
TABLE = np.arange(12.0).reshape(3, 4)


def values(tensor):
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).tolist()


def test_the_installed_release_is_the_one_the_patches_were_made_for():
    import safetensors
    from packaging.specifiers import SpecifierSet

    assert safetensors.__version__ in SpecifierSet(patch_safetensors.VERSIONS)
    assert all(name and why for name, why in patch_safetensors.PATCHES)


@pytest.mark.parametrize("name", DTYPES)
def test_reads_every_dtype_that_pytorch_wrote(name):
    tensor = load_file(GOLDEN)[name]
    assert tensor.dtype is getattr(torch, name)
    assert values(tensor) == np.array([0, 1, 2, 0, 1]).astype(bool if name == "bool" else float).tolist()


def test_writes_the_bytes_that_pytorch_writes(tmp_path):
    path = tmp_path / "again.safetensors"
    save_file(load_file(GOLDEN), path, {"format": "pt"})
    assert path.read_bytes() == GOLDEN.read_bytes()
    assert save(load(GOLDEN.read_bytes()), {"format": "pt"}) == GOLDEN.read_bytes()


@given(name=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 4), max_size=3).map(tuple))
@settings(max_examples=40, deadline=None)
def test_any_tensor_comes_back_from_bytes(name, shape):
    tensor = torch.tensor([i % 2 for i in range(int(np.prod(shape)))], dtype=getattr(torch, name)).reshape(shape)
    back = load(save({"x": tensor}))["x"]
    assert back.dtype is tensor.dtype and back.shape == tensor.shape and values(back) == values(tensor)


def test_values_that_are_not_computed_yet_are_written(tmp_path):
    lazy = torch.ones(64, 64) @ torch.ones(64, 64)
    save_file({"lazy": lazy.half(), "part": lazy[:2].contiguous()}, tmp_path / "lazy.safetensors")
    back = load_file(tmp_path / "lazy.safetensors")
    assert back["lazy"].dtype is torch.float16 and set(back["lazy"].float().flatten().tolist()) == {64.0}
    assert back["part"].shape == (2, 64)


def test_loaded_tensors_are_their_own_and_can_be_written():
    with safe_open(GOLDEN, framework="pt") as file:
        tensor = file.get_tensor("float32")
        tensor.fill_(5)
        assert values(tensor) == [5.0] * 5 and values(file.get_tensor("float32")) == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (np.s_[0], TABLE[0]),
        (np.s_[-1], TABLE[-1]),
        (np.s_[:, ::2], TABLE[:, ::2]),
        (np.s_[1:2, 1:-1], TABLE[1:2, 1:-1]),
        (np.s_[..., 1], TABLE[..., 1]),
        (np.s_[..., ...], TABLE),
        (np.s_[:], TABLE),
        (np.s_[2:1], TABLE[2:1]),
        (np.s_[-9:99], TABLE),
        (np.s_[1, 2], TABLE[1, 2]),
        (np.s_[:, [0, 2]], TABLE[:, [0, 2]]),
        ((), TABLE),
        (None, TABLE[None]),
    ],
)
def test_slices_of_bfloat16(index, wanted):
    with safe_open(GOLDEN, framework="pt", device="cpu") as file:
        part = file.get_slice("table")
        assert part.get_shape() == [3, 4] and part.get_dtype() == "BF16"
        got = part[index]
    assert got.dtype is torch.bfloat16 and got.shape == wanted.shape and values(got) == wanted.tolist()


def test_slices_with_tensors_and_bad_slices():
    with safe_open(GOLDEN, framework="pt") as file:
        assert values(file.get_slice("table")[torch.tensor(1)]) == TABLE[1].tolist()
        with pytest.raises(IndexError):
            file.get_slice("table")[3]
        with pytest.raises(IndexError):
            file.get_slice("scalar")[:]
        with pytest.raises(ValueError, match="step"):
            file.get_slice("table")[::-1]
        with pytest.raises(TypeError):
            file.get_slice("table")["x"]


def test_names_metadata_and_errors(tmp_path):
    with safe_open(GOLDEN, framework="pt") as file:
        assert set(file.keys()) == {*DTYPES, "empty", "scalar", "table"} == set(file.get_tensors())
        assert set(file.offset_keys()) == set(file.keys()) and file.metadata() == {"format": "pt"}
        for read in file.get_tensor, file.get_slice:
            with pytest.raises(SafetensorError, match="does not contain tensor nope"):
                read("nope")
            with pytest.raises(SafetensorError, match="does not contain tensor __metadata__"):
                read("__metadata__")
    with pytest.raises(SafetensorError, match="closed"):
        file.get_tensor("float32")
    with pytest.raises(SafetensorError, match="device 'tpu' is invalid"):
        safe_open(GOLDEN, framework="pt", device="tpu")
    with pytest.raises(FileNotFoundError):
        safe_open(tmp_path / "none", framework="pt")
    with safe_open(GOLDEN, framework="np") as file:
        assert isinstance(file.get_tensor("float32"), np.ndarray)


def test_damaged_files_are_refused(tmp_path):
    data = GOLDEN.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in (0, 5, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(SafetensorError):
            load_file(path)
    header = json.dumps({"x": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(SafetensorError, match="x has the dtype F8_E5M2"):
        load_file(path)


def test_shared_and_strided_tensors_are_refused_and_parts_are_not():
    base = torch.arange(24.0).reshape(4, 6)
    with pytest.raises(RuntimeError, match="share memory"):
        save({"a": base, "b": base.detach()})
    with pytest.raises(ValueError, match="non contiguous"):
        save({"a": base.t()})
    back = load(save({"top": base[:2], "bottom": base[2:]}))
    assert values(back["top"]) == base[:2].tolist() and values(back["bottom"]) == base[2:].tolist()
    back = load(save({"a": base, "b": base.clone(), "c": base.to(torch.float32, copy=True)}))
    assert values(back["b"]) == base.tolist()


def test_models_with_tied_weights(tmp_path):
    def build():
        model = torch.nn.Module()
        model.first, model.second = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
        model.second.weight = model.first.weight
        return model

    model, other = build(), build()
    save_model(model, tmp_path / "tied.safetensors")
    with safe_open(tmp_path / "tied.safetensors", framework="pt") as file:
        assert file.keys() == ["first.weight"] and file.metadata() == {"second.weight": "first.weight"}
    assert load_model(other, tmp_path / "tied.safetensors") == (set(), [])
    assert values(other.second.weight.detach()) == values(model.first.weight.detach())
