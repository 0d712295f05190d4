"""torch.save and torch.load: PyTorch's files both ways, nothing but listed classes, one sentence for damaged files.

The files in tests/golden were written by real PyTorch (tests/golden/make_checkpoints.py).
"""

import argparse
import copy
import io
import os
import pickle
import random
import subprocess
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def values(tensor):
    """The elements of a tensor as nested lists (bfloat16 through float32, which holds them exactly)."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).tolist()


def saved(obj, **options):
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


def loaded(data, **options):
    return torch.load(io.BytesIO(data), **options)


# --- files of real PyTorch -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["zip", "legacy"])
def every_kind(request):
    return torch.load(GOLDEN / f"checkpoint_{request.param}.pt", weights_only=True)


@pytest.mark.parametrize("name", DTYPES)
def test_reads_every_dtype_of_pytorch(every_kind, name):
    tensor = every_kind["dtypes"][name]
    assert tensor.dtype is getattr(torch, name)
    assert values(tensor) == np.array([0, 1, 2, 0, 1]).astype(bool if name == "bool" else float).tolist()


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("whole", np.arange(24.0).tolist()),
        ("part", [4.0, 8.0, 12.0, 16.0]),
        ("transposed", [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]),
        ("scalar", 7),
        ("empty", []),
        ("wants_grad", [0.0, 1.0, 2.0]),
        ("parameter", [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
    ],
)
def test_reads_offsets_strides_and_shapes(every_kind, key, wanted):
    assert values(every_kind[key]) == wanted


def test_reads_parameters_and_attributes(every_kind):
    assert every_kind["empty"].shape == (0, 4)
    assert every_kind["wants_grad"].requires_grad and not isinstance(every_kind["wants_grad"], torch.nn.Parameter)
    assert isinstance(every_kind["parameter"], torch.nn.Parameter) and every_kind["parameter"].requires_grad
    assert not every_kind["annotated"].requires_grad and every_kind["annotated"].note == "kept"
    assert every_kind["size"] == torch.Size([2, 3]) and isinstance(every_kind["size"], torch.Size)
    assert every_kind["dtype"] is torch.float16 and every_kind["device"] == torch.device("cpu")
    assert every_kind["layout"] is torch.strided


def test_tied_tensors_stay_tied(every_kind):
    tied = every_kind["tied"]
    assert isinstance(tied, OrderedDict)
    with torch.no_grad():
        tied["a.weight"].fill_(9)
    assert values(tied["b.weight"]) == [[9.0] * 3] * 2


def test_reads_meta_tensors():
    meta = torch.load(GOLDEN / "checkpoint_zip.pt")["meta"]
    assert meta.is_meta and meta.shape == (2, 3)


def test_reads_the_plain_things_beside_tensors():
    got = torch.load(GOLDEN / "checkpoint_plain.pt")
    assert got["set"] == {1, 2} and got["slice"] == slice(1, None, 2) and got["complex"] == 1 + 2j
    assert got["bytes"] == b"\x00\xff" and got["default"] == {"a": [1]} and got["default"]["new"] == []
    assert got["namespace"] == argparse.Namespace(rank=4, name="style")
    assert got["array"].dtype == np.float32 and got["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert got["big_endian"].tolist() == [0, 1, 2]
    assert got["number"] == 0.5 and got["path"] == Path("a/b")


def test_reads_a_training_state():
    got = torch.load(GOLDEN / "checkpoint_training.pt", map_location="cpu")
    state = got["optimizer"]["state"][0]
    assert values(state["exp_avg"]) == pytest.approx([0.1] * 4) and values(state["step"]) == 1
    assert got["optimizer"]["param_groups"][0]["weight_decay"] == 0.25
    assert got["scheduler"]["last_epoch"] == 1
    random.seed(3)
    np.random.seed(3)
    assert got["random_state"] == random.getstate()
    assert got["numpy_random_seed"][1].tolist() == np.random.get_state()[1].tolist()
    torch.manual_seed(3)
    assert values(got["torch_manual_seed"]) == values(torch.get_rng_state())


# --- round trips -----------------------------------------------------------------------------------------------------
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
FLOATS = st.floats(allow_nan=False, allow_subnormal=False)
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.binary()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(name=st.sampled_from(DTYPES), shape=SHAPES, protocol=st.integers(2, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_tensor_comes_back(name, shape, protocol):
    count = int(np.prod(shape))
    tensor = torch.tensor([i % 2 for i in range(count)], dtype=getattr(torch, name)).reshape(shape)
    back = loaded(saved({"x": tensor}, pickle_protocol=protocol))["x"]
    assert back.dtype is tensor.dtype and back.shape == tensor.shape and values(back) == values(tensor)


@given(tree=TREES)
@settings(max_examples=60, deadline=None)
def test_any_plain_object_comes_back(tree):
    assert loaded(saved(tree)) == tree


def test_special_values_keep_their_bits():
    bits = np.array([0x7FC0, 0xFF80, 0x8000, 0x0001, 0x3F80], np.uint16)
    back = loaded(saved(torch._tensor.from_bits_bf16(bits)))
    assert torch._tensor.to_bits_bf16(back).tolist() == bits.tolist()
    floats = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45])
    assert loaded(saved(floats)).numpy().view(np.uint32).tolist() == floats.numpy().view(np.uint32).tolist()


def test_views_bring_their_storage_once():
    base = torch.zeros(100_000)
    data = saved({"base": base, "rows": base.view(100, 1000), "again": base.detach()})
    assert 400_000 < len(data) < 405_000
    back = loaded(data)
    back["base"].fill_(2)
    assert values(back["again"])[0] == 2.0
    back["rows"][1, 0] = 3
    assert values(back["base"])[999:1002] == [2.0, 3.0, 2.0]


def test_transposed_and_sliced_views_keep_their_values():
    base = torch.arange(24.0).reshape(4, 6)
    views = {"t": base.t(), "row": base[2], "column": base[:, 1], "block": base[1:3, ::2], "wide": base[0].expand(3, 6)}
    back = loaded(saved(views))
    assert {k: values(v) for k, v in back.items()} == {k: values(v) for k, v in views.items()}


def test_a_parameter_under_two_names_is_one():
    weight = torch.nn.Parameter(torch.ones(3))
    back = loaded(saved({"a": weight, "b": weight}))
    assert back["a"] is back["b"] and isinstance(back["a"], torch.nn.Parameter)


def test_module_and_optimizer_states_come_back():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    back = loaded(saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()}))
    assert list(back["model"]) == list(model.state_dict())
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    other.load_state_dict(back["model"])
    assert values(other[0].weight) == values(model[0].weight)
    torch.optim.AdamW(other.parameters()).load_state_dict(back["optimizer"])


def test_equal_objects_give_equal_bytes():
    assert saved({"x": torch.ones(3), "y": [1, 2]}) == saved({"x": torch.ones(3), "y": [1, 2]})


def test_records_start_at_multiples_of_64(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save([torch.ones(n) for n in range(1, 20)], path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            name_length, extra = np.frombuffer(data, "<u2", 2, info.header_offset + 26)
            assert (info.header_offset + 30 + name_length + extra) % 64 == 0
    assert {"weights/data.pkl", "weights/version", "weights/byteorder", "weights/data/0"} <= set(names)


def test_file_objects_that_only_write():
    class Pipe:
        def __init__(self):
            self.data = b""

        def write(self, part):
            self.data += bytes(part)
            return len(part)

        def flush(self):
            pass

    pipe = Pipe()
    torch.save({"x": torch.arange(3)}, pipe)
    assert values(loaded(pipe.data)["x"]) == [0, 1, 2]


def test_open_files_and_paths(tmp_path):
    path = tmp_path / "a.pt"
    with path.open("wb") as file:
        torch.save(torch.arange(3), file)
    for source in path, str(path):
        assert values(torch.load(source, mmap=True)) == [0, 1, 2]
    with path.open("rb") as file:
        assert values(torch.load(file)) == [0, 1, 2]


def test_plain_pickle_and_deepcopy():
    weight = torch.nn.Parameter(torch.arange(3.0))
    for tensor in torch.arange(3.0).bfloat16(), torch.tensor(3), torch.zeros(0, 2), weight:
        for back in pickle.loads(pickle.dumps(tensor)), copy.deepcopy(tensor):
            assert type(back) is type(tensor) and back.dtype is tensor.dtype
            assert back.requires_grad == tensor.requires_grad
            assert back.shape == tensor.shape and values(back) == values(tensor) and back is not tensor


def test_storages_come_back():
    storage = torch.arange(3.0).storage()
    assert loaded(saved(storage)).tolist() == [0.0, 1.0, 2.0]
    assert pickle.loads(pickle.dumps(storage)).tolist() == [0.0, 1.0, 2.0]


# --- where tensors go ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "where",
    [None, "cpu", torch.device("cpu"), {"cpu": "cpu"}, {}, lambda s, _: s, lambda s, _: s.cpu(), lambda s, _: None],
)
def test_every_kind_of_map_location(where):
    back = loaded(saved(torch.arange(3)), map_location=where)
    assert back.device == torch.device("cpu") and values(back) == [0, 1, 2]


def as_if_from(device, data):
    """The checkpoint `data` with its tensors' device renamed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            old_name, new_name = b"X\x03\x00\x00\x00cpu", b"X" + len(device).to_bytes(4, "little") + device.encode()
            new.writestr(name, old.read(name).replace(old_name, new_name))
    return buffer.getvalue()


def test_a_device_that_is_not_here():
    data = as_if_from("mps", saved(torch.arange(3)))
    with pytest.raises(RuntimeError, match=r"'mps'.*map_location='cpu'"):
        loaded(data)
    assert values(loaded(data, map_location="cpu")) == [0, 1, 2]
    assert values(loaded(data, map_location={"mps": "cpu"})) == [0, 1, 2]


def test_bad_map_locations_are_not_taken_for_damage():
    data = saved(torch.arange(3))
    with pytest.raises(ZeroDivisionError):
        loaded(data, map_location=lambda storage, name: 1 // 0)
    with pytest.raises(ValueError, match="mine"):
        loaded(data, map_location=lambda storage, name: int("mine"))
    with pytest.raises(TypeError, match="map_location must be"):
        loaded(data, map_location=[1])
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match=r"map_location='cuda:1', but no CUDA device is here"):
            loaded(data, map_location="cuda:1")


# --- what is refused -------------------------------------------------------------------------------------------------
class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def as_checkpoint(body):
    """A checkpoint file around the raw pickle `body`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("weights_only", [None, True, False])
@pytest.mark.parametrize(
    ("obj", "named"),
    [
        (Calls(os.system, "touch pwned"), "posix.system"),
        (Calls(eval, "1"), "builtins.eval"),
        (Calls(getattr, "x", "upper"), "builtins.getattr"),
        (Calls(__import__, "os"), "builtins.__import__"),
        (Calls(subprocess.Popen, ["true"]), "subprocess.Popen"),
        (OrderedDict(deep=[{"x": Calls(exec, "1")}]), "builtins.exec"),
        (random.Random(1), "random.Random"),
    ],
)
def test_unlisted_classes_are_refused_by_name(tmp_path, monkeypatch, weights_only, obj, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=rf"{named}.*add_safe_globals"):
        loaded(saved(obj), weights_only=weights_only)
    assert not list(tmp_path.iterdir())


def test_a_whole_module_is_refused_by_name():
    with pytest.raises(pickle.UnpicklingError, match=r"whole_module\.pt.*torch\.nn\.modules\.linear\.Linear"):
        torch.load(GOLDEN / "checkpoint_whole_module.pt", weights_only=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x80\x02ccollections\nOrderedDict\n}X\x03\x00\x00\x00foo\x4b\x01sb.", id="state of a class"),
        pytest.param(b"\x80\x02cargparse\nNamespace\nN}X\x03\x00\x00\x00foo\x4b\x01s\x86b.", id="slots of a class"),
        pytest.param(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00f\x4b\x01sb.", id="function state"),
        pytest.param(b"\x80\x02cnumpy\nndarray\n\x4b\x05\x85R.", id="call of what may be mentioned only"),
        pytest.param(b"(S'true'\nios\nsystem\n.", id="INST"),
        pytest.param(b"(cos\nsystem\nS'true'\no.", id="OBJ"),
        pytest.param(b"\x80\x02cos\nsystem\n)\x81.", id="NEWOBJ"),
        pytest.param(b"\x80\x04\x8c\x0bcollections\x8c\x1dOrderedDict.fromkeys.__self__\x93.", id="dotted name"),
        pytest.param(b"\x80\x02\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", id="odd codec"),
        pytest.param(b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", id="dtype of Python objects"),
        pytest.param(b"\x80\x02X\x01\x00\x00\x00aQ.", id="persistent id that is no storage"),
    ],
)
def test_tricks_of_the_pickle_machine_are_refused(body):
    before = vars(argparse.Namespace).keys(), vars(OrderedDict).keys()
    with pytest.raises(pickle.UnpicklingError):
        loaded(as_checkpoint(body), weights_only=False)
    assert before == (vars(argparse.Namespace).keys(), vars(OrderedDict).keys())


class Style:
    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return self.name == other.name


def test_a_class_can_be_admitted():
    data = saved({"style": Style("ink")})
    with pytest.raises(pickle.UnpicklingError, match="Style"):
        loaded(data)
    with torch.serialization.safe_globals([Style]):
        assert loaded(data)["style"] == Style("ink")
        assert torch.serialization.get_safe_globals() == [Style]
    with pytest.raises(pickle.UnpicklingError, match="Style"):
        loaded(data)
    torch.serialization.add_safe_globals([(dict, f"{__name__}.Style")])
    try:
        assert isinstance(loaded(saved({"kind": Style}))["kind"], type)
    finally:
        torch.serialization.clear_safe_globals()


def test_other_pickle_modules_and_the_old_format_are_refused(tmp_path):
    with pytest.raises(ValueError, match="pickle_module"):
        torch.load(GOLDEN / "checkpoint_zip.pt", pickle_module=json_like)
    with pytest.raises(ValueError, match="_use_new_zipfile_serialization"):
        torch.save(1, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert not list(tmp_path.iterdir())


json_like = type("json_like", (), {})


# --- damaged files ---------------------------------------------------------------------------------------------------
def one_sentence(error):
    text = str(error.value)
    return "\n" not in text and len(text) < 500


@pytest.mark.parametrize("name", ["zip", "legacy"])
def test_a_file_cut_off_anywhere_is_one_sentence(tmp_path, name):
    data = (GOLDEN / f"checkpoint_{name}.pt").read_bytes()
    path = tmp_path / "cut.pt"
    for length in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(RuntimeError, match=r"cut\.pt") as error:
            torch.load(path)
        assert one_sentence(error)


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_noticed_or_harmless(place, bit):
    tensor = torch.arange(500.0)
    data = bytearray(saved({"x": tensor}))
    data[place % len(data)] ^= 1 << bit
    try:
        back = loaded(bytes(data))
    except (RuntimeError, pickle.UnpicklingError):
        return
    assert values(back["x"]) == values(tensor)  # the bit was in padding or a date


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"GIF89a------", "no PyTorch checkpoint"),
        (pickle.dumps({"x": 1}), "no PyTorch checkpoint"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, said):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=rf"other\.pt.*{said}") as error:
        torch.load(path)
    assert one_sentence(error)


def test_zip_files_that_are_no_checkpoints(tmp_path):
    for name, said in ("readme.txt", "no PyTorch checkpoint"), ("m/constants.pkl", "TorchScript"):
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
            if said == "TorchScript":
                archive.writestr("m/data.pkl", "x")
        with pytest.raises(RuntimeError, match=said):
            torch.load(path)


def test_a_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "none.pt")
    with pytest.raises(RuntimeError, match="none does not exist"):
        torch.save(1, tmp_path / "none" / "x.pt")


def test_nothing_is_written_when_pickling_fails(tmp_path):
    with pytest.raises((pickle.PicklingError, AttributeError)):
        torch.save({"x": lambda: 0}, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def rewritten(data, name, content):
    """The checkpoint `data` with the record `name` replaced, or dropped for None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.namelist():
            if not info.endswith(name):
                new.writestr(info, old.read(info))
            elif content is not None:
                new.writestr(info, content(old.read(info)))
    return buffer.getvalue()


def test_storages_that_do_not_fit():
    data = saved({"x": torch.arange(4.0)})
    with pytest.raises(RuntimeError, match=r"data/0 is missing"):
        loaded(rewritten(data, "data/0", None))
    with pytest.raises(RuntimeError, match=r"data/0 has 12 bytes instead of 16"):
        loaded(rewritten(data, "data/0", lambda b: b[:12]))
    # the shape (4,) becomes (5,): it would read past the storage
    with pytest.raises(RuntimeError, match="does not fit in its storage of 4 elements"):
        loaded(rewritten(data, "data.pkl", lambda b: b.replace(b"K\x00K\x04\x85", b"K\x00K\x05\x85")))


def test_files_from_big_endian_machines_and_without_checksums():
    data = saved({"x": torch.tensor([1, 256])})
    swapped = rewritten(data, "data/0", lambda b: np.frombuffer(b, ">i8").astype("<i8").tobytes())
    assert values(loaded(rewritten(swapped, "byteorder", lambda _: b"big"))["x"]) == [1, 256]


# --- real PyTorch reads what is written here -------------------------------------------------------------------------
CHECK = """
import sys, torch
got = torch.load(sys.argv[1], weights_only=True)
for name, tensor in got["dtypes"].items():
    assert tensor.dtype is getattr(torch, name), (name, tensor.dtype)
    assert tensor.tolist() == [0, 1, 2, 0, 1] or name == "bool" and tensor.tolist() == [False, True, True, False, True]
assert got["t"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] and got["t"].stride() == (1, 3)
assert got["tied"]["a"].data_ptr() == got["tied"]["b"].data_ptr() == got["weight"].data_ptr()
assert type(got["weight"]) is torch.nn.Parameter and got["weight"].requires_grad and got["weight"].note == "kept"
assert got["empty"].shape == (0, 4) and got["scalar"].item() == 7 and got["scalar"].shape == ()
assert got["size"] == torch.Size([2, 3]) and got["dtype"] is torch.float16 and got["device"] == torch.device("cpu")
assert got["optimizer"]["state"][0]["exp_avg"].shape == (2, 3)
assert got["meta"].is_meta and got["layout"] is torch.strided
print("fine")
"""


@pytest.mark.reference
def test_real_pytorch_reads_our_files(tmp_path):
    python = ROOT / ".venv-reference" / "bin" / "python"
    if not python.exists():
        pytest.skip("needs .venv-reference: bash scripts/setup.sh --reference")
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    weight.note = "kept"
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.ones(2, 3)
    optimizer.step()
    obj = {
        "dtypes": {name: (torch.arange(5) % 3).to(getattr(torch, name)) for name in [*DTYPES, "complex128"]},
        "t": torch.arange(6.0).reshape(2, 3).t(),
        "weight": weight,
        "tied": OrderedDict(a=weight.detach(), b=weight.detach()),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(7),
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "layout": torch.strided,
        "meta": torch.empty(2, 3, device="meta"),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(obj, tmp_path / "ours.pt")
    run = subprocess.run([python, "-I", "-c", CHECK, tmp_path / "ours.pt"], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and run.stdout == "fine\n", run.stderr[-2000:]


def test_the_default_dict_keeps_its_factory():
    assert loaded(saved(defaultdict(list)))["x"] == []
