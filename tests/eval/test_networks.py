"""The networks against other people's on the same weights and pictures; golden/make_networks.py made the numbers."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import network_cases as cases
from PIL import Image

from eval import extractors, weights
from eval.frechet import frechet_distance
from eval.metrics.fid import moments
from eval.networks import efficientnet_lite, torchscript
from eval.networks.clip_resnet import QUALITY_TOKENS, ClipResNet
from eval.networks.efficientnet_lite import STYLE_SIZE, EfficientNetLite0
from eval.networks.inception import FEATURES, FIDInception
from eval.networks.loading import fill, read_state
from eval.networks.lpips import LPIPS, NETS
from eval.networks.torchscript import read_script_state
from eval.resize import antialiased_bilinear, tf1_bilinear
from jdiff_style.errors import UserError

with np.load(Path(__file__).parents[1] / "golden" / "networks.npz") as file:
    GOLDEN = {name.replace("|", "/"): file[name] for name in file.files}


def tensors(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def assert_close(ours, name, tolerance=1e-4, part=slice(None)):
    """Within ``tolerance`` of the largest value."""
    ours, wanted = np.asarray(ours), GOLDEN[name][part]
    assert ours.shape == wanted.shape
    assert np.isfinite(wanted).all() and wanted.std() > 0
    worst = np.abs(ours - wanted).max() / np.abs(wanted).max()
    assert worst <= tolerance, f"{name}: {worst:.3g} of the largest value away"


# --- Inception ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def inception():
    network = FIDInception()
    fill(network, tensors(cases.state(shapes(network), seed=1)), "test")
    return network


def test_inception_has_the_published_names(inception):
    assert sorted(inception.state_dict()) == GOLDEN["inception/names"].tolist()


@pytest.mark.parametrize("index", range(len(cases.INCEPTION_SIZES)))
def test_inception_equals_torch_fidelity(inception, index):
    pictures = torch.from_numpy(cases.pictures(2, cases.INCEPTION_SIZES[index], seed=index))
    found = inception(pictures[index:], FEATURES)
    assert list(found) == list(FEATURES)
    for name, value in found.items():
        assert_close(value.numpy()[:, :: cases.KEEP[name]], f"inception/{index}/{name}", part=slice(index, None))


def test_inception_gives_what_was_asked_and_runs_no_deeper(inception, monkeypatch):
    pictures = torch.from_numpy(cases.pictures(1, (32, 32), seed=0))
    both = inception(pictures, ("192", "64"))
    assert list(both) == ["192", "64"]
    monkeypatch.setattr(inception, "_to_192", None)
    assert inception(pictures)["64"].numpy() == pytest.approx(both["64"].numpy(), abs=1e-6)


@pytest.mark.parametrize("pictures", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_inception_wants_bytes_in_batches(inception, pictures):
    with pytest.raises(ValueError, match="uint8"):
        inception(pictures)


@pytest.mark.parametrize("wanted", [("65",), ("64", "pool"), ()])
def test_inception_names_the_unknown_feature(inception, wanted):
    with pytest.raises(ValueError, match="choose from 64, 192"):
        inception(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), wanted)


@pytest.mark.parametrize("antialias", [False, True])
def test_fid_equals_torchmetrics(inception, antialias, monkeypatch):
    # As the class's argument does it, without making 24 million weights again.
    monkeypatch.setattr(inception, "antialias", antialias)
    sides = []
    for count, seed in cases.FID:
        pictures = torch.from_numpy(cases.pictures(count, cases.FID_SIZE, seed))
        sides.append(moments(np.concatenate([inception(batch)["64"].numpy() for batch in (pictures[:2], pictures[2:])])))
    value = frechet_distance(*sides[0], *sides[1])
    assert value == pytest.approx(float(GOLDEN[f"fid/{int(antialias)}"]), rel=1e-3)
    # The other resizing is another number, or the equality above would say nothing about it.
    assert value != pytest.approx(float(GOLDEN[f"fid/{1 - int(antialias)}"]), rel=1e-2)


@pytest.mark.parametrize("index", range(len(cases.INCEPTION_SIZES)))
def test_resizing_equals_tensorflow_1(index):
    """To rounding: a compiler may fuse the multiplication and the addition, which moves the last bit."""
    pictures = torch.from_numpy(cases.pictures(2, cases.INCEPTION_SIZES[index], seed=index)).float()
    ours = tf1_bilinear(pictures, (299, 299)).numpy()[:, :, ::23, ::17]
    assert np.abs(ours - GOLDEN[f"resize/{index}"]).max() <= 255 * 2.0**-23


def test_tensorflow_1_takes_pixels_at_whole_places():
    """Twice the size: even places are the pixels themselves, the last one is repeated. No half-pixel offset."""
    row = torch.tensor([0.0, 10.0, 40.0]).reshape(1, 1, 1, 3)
    assert tf1_bilinear(row, (1, 6)).flatten().tolist() == [0, 5, 10, 25, 40, 40]
    assert tf1_bilinear(row.transpose(2, 3), (6, 1)).flatten().tolist() == [0, 5, 10, 25, 40, 40]
    # Halved: every second pixel, nothing averaged; with antialiasing the neighbours count.
    assert tf1_bilinear(torch.arange(8.0).reshape(1, 1, 1, 8), (1, 4)).flatten().tolist() == [0, 2, 4, 6]
    spread = antialiased_bilinear(torch.arange(8.0).reshape(1, 1, 1, 8), (1, 4)).flatten().tolist()
    assert spread[1:3] == pytest.approx([2.5, 4.5], abs=1e-6)


# --- LPIPS -------------------------------------------------------------------------------------------------------------
def lpips_of(net):
    network = LPIPS(net)
    trunk = {f"features.{name}": shape for name, shape in shapes(network.trunk).items()}
    heads = {f"lin{index}.model.1.weight": shape for index, shape in enumerate(shapes(network.heads).values())}
    network.fill_trunk(tensors(cases.state(trunk, seed=2)), "trunk")
    network.fill_heads(tensors(cases.state(heads, seed=2)), "heads")
    return network, trunk, heads


def lpips_pictures(seed):
    return torch.from_numpy(cases.pictures(3, cases.LPIPS_SIZE, seed)).float() / 127.5 - 1


@pytest.mark.parametrize("net", NETS)
def test_lpips_equals_torchmetrics(net):
    network, trunk, heads = lpips_of(net)
    assert sorted(trunk) == GOLDEN[f"lpips/{net}/trunk"].tolist()
    assert sorted(heads) == GOLDEN[f"lpips/{net}/heads"].tolist()
    first, second = network.features(lpips_pictures(7)), network.features(lpips_pictures(8))
    assert_close(network.distance(first, second).numpy(), f"lpips/{net}")
    table = network.pairwise(first, second).numpy()
    assert table.shape == (3, 3)
    assert_close(np.diag(table), f"lpips/{net}")
    assert network.pairwise(second, first).numpy() == pytest.approx(table.T, abs=1e-5)


def test_lpips_of_a_picture_and_itself():
    network, _, _ = lpips_of("squeeze")
    pictures = lpips_pictures(7)
    features = network.features(pictures)
    assert network(pictures, pictures).tolist() == [0, 0, 0]
    table = network.pairwise(features, features).numpy()
    assert np.abs(np.diag(table)).max() < 1e-5 < np.abs(table - np.diag(np.diag(table))).max()
    lengths = (features[0] ** 2).sum(dim=1).sqrt().numpy()
    assert lengths.max() == pytest.approx(1, abs=1e-5)


def test_lpips_refuses_what_does_not_belong():
    with pytest.raises(UserError, match="'resnet' is unknown; choose from squeeze, alex, vgg"):
        LPIPS("resnet")
    network, _, heads = lpips_of("squeeze")
    with pytest.raises(UserError, match=r"vgg16.pth: .*these are not the weights of this network"):
        network.fill_trunk({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "vgg16.pth")
    other = tensors(cases.state(heads, 0)) | {"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}
    with pytest.raises(UserError, match=r"heads: 0 has shape \(1, 3, 1, 1\), not \(1, 64, 1, 1\)"):
        network.fill_heads(other, "heads")


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lite():
    return EfficientNetLite0.from_file(weights.find("efficientnet_lite0").path)


def test_lite_equals_its_published_implementation(lite):
    x = torch.from_numpy(cases.pictures(2, cases.LITE_SIZE, seed=9)).float().sub(127).div(128)
    assert_close(lite.logits(x).numpy(), "lite/logits")
    features, style = lite.describe(x)
    assert_close(features.numpy()[:, ::2], "lite/features")
    assert_close(style.numpy(), "lite/style")
    assert style.shape == (2, STYLE_SIZE)
    assert lite.style_statistics(x[:1]).numpy() == pytest.approx(style.numpy()[:1], abs=1e-5)
    assert [tuple(m.shape[1:]) for m in lite.middle(x[:1])] == [
        (16, 112, 112),
        (24, 56, 56),
        (40, 28, 28),
        (80, 14, 14),
        (112, 14, 14),
    ]


def test_lite_prepares_the_middle_of_the_picture():
    wide = Image.new("L", (1024, 512), 127)
    wide.paste(255, (0, 0, 200, 512))
    made = efficientnet_lite.prepare(wide)
    assert made.shape == (3, 224, 224) and made.dtype == np.float32
    assert np.abs(made).max() == 0
    assert efficientnet_lite.prepare(Image.new("RGB", (50, 50), (255, 127, 0)))[:, 0, 0].tolist() == [1, 0, -127 / 128]


# --- CLIP with a ResNet ------------------------------------------------------------------------------------------------
def test_clip_equals_piq():
    network = ClipResNet(**cases.CLIP)
    assert sorted(network.state_dict()) == GOLDEN["clip/names"].tolist()
    fill(network, tensors(cases.state(shapes(network), seed=4)), "test")
    assert [list(words) for words in QUALITY_TOKENS] == cases.CLIP_TOKENS
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[:, :5] = torch.tensor(cases.CLIP_TOKENS)
    images = cases.clip_pictures(torch)
    assert_close(network.encode_image(images).numpy(), "clip/pictures")
    assert_close(network.encode_text(tokens).numpy(), "clip/texts")
    assert_close(network.quality(images).numpy(), "clip/quality")
    assert network.quality(images, network.quality_texts().flip(0)).numpy() == pytest.approx(
        GOLDEN["clip/quality"][:, ::-1], abs=1e-4
    )


def test_clip_takes_its_weights_out_of_the_published_file_and_leaves_the_sizes(monkeypatch):
    class Small(ClipResNet):
        def __init__(self):
            super().__init__(**cases.CLIP)

    state = tensors(cases.state(shapes(Small()), seed=4))
    sizes = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    monkeypatch.setattr(Small, "reads", staticmethod(lambda path: {**state, **sizes}))
    network = Small.from_file(Path("RN50.pt"))
    assert_close(network.encode_image(cases.clip_pictures(torch)).numpy(), "clip/pictures")
    monkeypatch.setattr(Small, "reads", staticmethod(lambda path: {**state, "more": torch.tensor(1)}))
    with pytest.raises(UserError, match=r"RN50\.pt: has an unknown more"):
        Small.from_file(Path("RN50.pt"))


def test_a_script_archive_is_read_as_pytorch_reads_it(tmp_path):
    (tmp_path / "script.pt").write_bytes(GOLDEN["script"].tobytes())
    state = read_script_state(tmp_path / "script.pt")
    wanted = {name.removeprefix("script/"): value for name, value in GOLDEN.items() if name.startswith("script/")}
    assert sorted(state) == sorted(wanted)
    for name, value in wanted.items():
        assert state[name].float().numpy() == pytest.approx(value, abs=0), name


class Evil:
    def __reduce__(self):
        return os.system, ("touch broken-out",)


def _script_of(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)
    return path


def test_a_script_archive_cannot_run_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"x.pt: cannot be read as a TorchScript archive \(it asks for posix.system\)"):
        read_script_state(_script_of(tmp_path / "x.pt", pickle.dumps(Evil())))
    assert not (tmp_path / "broken-out").exists()


@pytest.mark.parametrize(
    ("size", "stride"), [((5,), (1,)), ((2, 2), (3, 1)), ((2**40,), (0,)), ((-1,), (1,)), ((2,), (-1,))]
)
def test_a_tensor_stays_within_its_storage(size, stride):
    with pytest.raises(pickle.UnpicklingError, match="a tensor"):
        torchscript._tensor(np.zeros(4, np.float32), 0, size, stride)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", None])
def test_a_damaged_script_archive_is_one_sentence(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content) if content is not None else _script_of(path, b"\x80\x02")
    with pytest.raises(UserError, match=r"x.pt: cannot be read as a TorchScript archive"):
        read_script_state(path)


# --- files -------------------------------------------------------------------------------------------------------------
def test_a_state_is_read_from_either_format(tmp_path):
    from safetensors.torch import save_file

    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}
    torch.save(state, tmp_path / "x.pth")
    save_file(state, tmp_path / "x.safetensors")
    for name in ("x.pth", "x.safetensors"):
        assert {k: v.tolist() for k, v in read_state(tmp_path / name).items()} == {"a": [1, 2], "b": [[3]]}


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not weights at all" * 9])
def test_a_damaged_file_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: cannot be read as network weights"):
        read_state(tmp_path / name)


def test_a_checkpoint_of_something_else_is_refused(tmp_path, lite):
    torch.save({"step": 3, "model": {"a": torch.zeros(1)}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds no plain table of weights"):
        read_state(tmp_path / "x.pth")
    torch.save({"_fc.weight": torch.zeros(1)}, tmp_path / "y.pth")
    with pytest.raises(UserError, match=r"y.pth: lacks _blocks.0._bn1.bias \(246 such\)"):
        EfficientNetLite0.from_file(tmp_path / "y.pth")
    with pytest.raises(UserError, match="x: has an unknown extra"):
        fill(lite, {**lite.state_dict(), "extra": torch.zeros(1)}, "x")


# --- as scoring calls them: from uint8 pictures to features ------------------------------------------------------------
def test_lpips_from_files_and_bytes_equals_torchmetrics(tmp_path):
    _, trunk, heads = lpips_of("squeeze")
    torch.save(tensors(cases.state(trunk, seed=2)), tmp_path / "trunk.pth")
    torch.save(tensors(cases.state(heads, seed=2)), tmp_path / "heads.pth")
    network = extractors.lpips("squeeze", tmp_path / "trunk.pth", tmp_path / "heads.pth", "1" * 64, "2" * 64)
    first, second = (network.activations(cases.pictures(3, cases.LPIPS_SIZE, seed)) for seed in (7, 8))
    table = network.distances(first, second)
    assert table.dtype == np.float32
    assert_close(np.diag(table), "lpips/squeeze")
    # Never below 0, which the total would refuse.
    same = network.distances(first, first)
    assert same.min() >= 0 and np.diag(same).max() < 1e-5


def test_inception_from_bytes_equals_torch_fidelity(inception, monkeypatch):
    monkeypatch.setattr(FIDInception, "from_file", lambda path: inception)
    network = extractors.inception(Path("file"), "00", {"fid64", "fid2048"})
    rows = network.compute(cases.pictures(2, cases.INCEPTION_SIZES[0], seed=0))
    for feature, name in (("fid64", "64"), ("fid2048", "2048")):
        assert_close(rows[:, network.gives[feature]][:, :: cases.KEEP[name]], f"inception/0/{name}")


def test_clip_iqa_from_bytes_equals_piq_on_normalised_pictures(monkeypatch):
    clip = ClipResNet(**cases.CLIP)
    fill(clip, tensors(cases.state(shapes(clip), seed=4)), "test")
    monkeypatch.setattr(ClipResNet, "from_file", lambda path: clip)
    # The golden cosines belong to bytes / 64 − 2: a normalisation by 128 and 64, as the challenge's protocol scales.
    monkeypatch.setattr("eval.networks.clip_resnet.MEAN", (128.0,) * 3)
    monkeypatch.setattr("eval.networks.clip_resnet.DEVIATION", (64.0,) * 3)
    network = extractors.clip_iqa(Path("RN50.pt"), "00", "challenge")
    assert_close(network.compute(cases.pictures(2, (96, 160), seed=10)), "clip/quality")
