"""Decoding, feature pass, cache and LPIPS pairs, with networks that count what they are asked."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.cache import FeatureCache, content_hash
from eval.decode import Decoders, Order, decode
from eval.features import DIVERSITY_PICTURES, FeaturePass, PairDistances
from eval.preprocess import AS_IT_IS, LPIPS_INPUT, Preprocessing


class Mean:
    """Mean colour; counts calls and pictures."""

    key, prepare, gives = "mean-1", AS_IT_IS, {"red": slice(0, 1), "colour": slice(None)}

    def __init__(self):
        self.calls = []

    def compute(self, inputs):
        self.calls.append(inputs.shape)
        return inputs.astype(np.float32).mean(axis=(2, 3))


class Apart:
    """Distance of mean colours; counts the pictures it looked at."""

    key, prepare = "apart-1", LPIPS_INPUT

    def __init__(self):
        self.seen = 0

    def activations(self, inputs):
        self.seen += len(inputs)
        return inputs.astype(np.float32).mean(axis=(1, 2, 3))

    def distances(self, first, second):
        return np.abs(first[:, None] - second[None, :])


@pytest.fixture
def files(tmp_path):
    made = []
    for index in range(7):
        size = (6, 4) if index < 5 else (5, 5)
        path = tmp_path / f"bild ä{index}.png"
        Image.new("RGB", size, (10 * index, index, 0)).save(path)
        made.append(path)
    return made


def load(files, cache=None, network=None, workers=0, batch=3, **options):
    network = network or Mean()
    with Decoders(workers) as decoders:
        loader = FeaturePass([network], cache or FeatureCache(None), decoders, "challenge", batch)
        groups = list(loader.load([("00" if i < 4 else "01", path) for i, path in enumerate(files)], **options))
    return groups, network


def test_groups_are_batches_of_one_style_and_every_picture_gets_its_features(files):
    groups, network = load(files)
    assert [len(group) for group in groups] == [3, 1, 3]
    assert [shape[0] for shape in network.calls] == [3, 1, 1, 2]  # mixed sizes go in calls of their own
    for index, item in enumerate(item for group in groups for item in group):
        assert item.features["red"].tolist() == [10 * index] and item.features["colour"].tolist() == [10 * index, index, 0]
        assert item.features["hist"].shape == (4168,) and item.features["hist"].sum() == 2 * item.size[0] * item.size[1]
        assert item.digest == content_hash(item.path) and not item.inputs


def test_processes_give_what_one_process_gives(files):
    alone, _ = load(files)
    pool, _ = load(files, workers=1)
    for a, b in zip((i for g in alone for i in g), (i for g in pool for i in g), strict=True):
        assert a.path == b.path and (a.features["hist"] == b.features["hist"]).all()
        assert (a.features["colour"] == b.features["colour"]).all()


def test_the_cache_knows_contents_not_names(files, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    before, first = load(files, cache)
    moved = [path.rename(path.with_name(f"other {path.name}")) for path in files]
    after, second = load(moved, cache)
    assert first.calls and not second.calls
    for a, b in zip((i for g in before for i in g), (i for g in after for i in g), strict=True):
        assert (a.features["colour"] == b.features["colour"]).all() and a.features["colour"].dtype == np.float32
    Image.new("RGB", (6, 4), (99, 0, 0)).save(moved[0])
    changed, third = load(moved, cache)
    assert third.calls == [(1, 3, 4, 6)] and changed[0][0].features["red"] == [99]
    other = Mean()
    other.key = "mean-2"
    assert load(moved, cache, other)[1].calls, "another network must not read these entries"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-3] + b"\x55" + data[-2:]])
def test_a_damaged_entry_is_computed_again_with_a_notice(files, tmp_path, damage, caplog):
    cache = FeatureCache(tmp_path / "cache")
    before, _ = load(files[:1], cache)
    entry = next((tmp_path / "cache").rglob("*.npy"))
    entry.write_bytes(damage(entry.read_bytes()))
    after, network = load(files[:1], cache)
    assert len(network.calls) == 1 and f"{entry} is damaged" in caplog.text
    assert (after[0][0].features["colour"] == before[0][0].features["colour"]).all()
    assert not load(files[:1], cache)[1].calls


def test_a_folder_that_cannot_be_written_stops_nothing(files, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    groups, _ = load(files, FeatureCache(tmp_path / "file"))
    assert len(groups) == 3 and caplog.text.count("cannot be written") == 1


def test_a_bad_picture_is_named_and_the_others_go_on(files):
    files[1].write_bytes(b"no picture")
    files[2].unlink()
    groups, network = load(files)
    assert [item.error is None for item in groups[0]] == [True, False, False]
    assert groups[0][1].error == "not a picture" and "No such file" in groups[0][2].error
    assert sum(shape[0] for shape in network.calls) == 5


def test_networks_that_answer_nonsense_are_stopped(files):
    network = Mean()
    network.compute = lambda inputs: np.full((len(inputs), 3), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match="mean-1"):
        load(files, network=network)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_pair_distances_do_not_depend_on_the_batch_and_are_cached(tmp_path, batch):
    rng = np.random.default_rng(0)
    files = []
    for index in range(9):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(files[-1])
    cache, network = FeatureCache(tmp_path / "cache"), Apart()
    extra = {"lpips": network.prepare}

    def run():
        network.seen = 0
        references = [item for group in load(files[:3])[0] for item in group]
        pairs = PairDistances(network, cache, batch, diversity=True)
        pairs.begin("00", references)
        found = []
        for group in load(files[3:7], batch=batch, extra=extra)[0]:
            pairs.add(group)
            found += group
        return found

    found = run()
    level = [np.asarray(decode(Order(f, (("x", LPIPS_INPUT),))).inputs["x"], np.float32).mean() for f in files]
    for index, item in enumerate(found):
        assert item.features["lpips"] == pytest.approx([abs(level[3 + index] - level[r]) for r in range(3)], rel=1e-5)
        earlier = [abs(level[3 + index] - level[3 + j]) for j in range(index)]
        assert item.features["lpips_pairs"] == pytest.approx(earlier, rel=1e-5)
        assert not item.inputs
    run()
    assert network.seen == 0


def test_diversity_looks_at_a_limited_number(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    group = load([path] * 4, batch=4, extra={"lpips": LPIPS_INPUT})[0][0]
    pairs = PairDistances(Apart(), FeatureCache(None), references=False, diversity=True)
    pairs.begin("00", [])
    counted = 0
    for _ in range(10):
        for item in group:
            item.inputs["lpips"] = np.zeros((3, 256, 256), np.uint8)
            item.features.pop("lpips_pairs", None)
        pairs.add(group)
        counted += sum("lpips_pairs" in item.features for item in group)
    assert counted == DIVERSITY_PICTURES


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (31, 97), (224, 224), (256, 256), (640, 480)])
def test_preprocessing_equals_transformers_to_the_last_pixel(size, tmp_path):
    from transformers import BitImageProcessor, CLIPImageProcessor

    rgb = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for processor in (
        BitImageProcessor(size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]),
        CLIPImageProcessor(),
        CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 40, "width": 32}, resample=2),
        CLIPImageProcessor(size={"height": 30, "width": 50}, do_center_crop=False, do_normalize=False),
    ):  # fmt: skip
        processor.save_pretrained(tmp_path)
        expected = processor(Image.fromarray(rgb), return_tensors="np")["pixel_values"][0]
        found = Preprocessing.of_folder(tmp_path)(rgb)
        assert found.dtype == np.float32 and np.array_equal(found, expected)


def test_workers_end_when_their_parent_is_killed(files):
    script = f"""
import multiprocessing, sys
from eval.decode import Decoders, Order
if __name__ == "__main__":
    with Decoders(1) as decoders:
        list(decoders.run([[Order({str(files[0])!r})]]))
        print(multiprocessing.active_children()[0].pid, flush=True)
        sys.stdin.read()
"""
    path = files[0].with_name("parent.py")
    path.write_text(script)
    root = str(Path(__file__).resolve().parents[2])
    parent = subprocess.Popen([sys.executable, str(path)], env={**os.environ, "PYTHONPATH": root}, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    for _ in range(200):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker waits for ever")


def test_a_call_of_a_network_has_a_limited_number_of_pixels(files, monkeypatch):
    monkeypatch.setattr("eval.features.CALL_PIXELS", 2 * 6 * 4)
    groups, network = load(files[:4], batch=4)
    assert [shape[0] for shape in network.calls] == [2, 2]
    assert [item.features["red"].tolist() for item in groups[0]] == [[0], [10], [20], [30]]
    monkeypatch.setattr("eval.features.CALL_PIXELS", 1)
    assert [shape[0] for shape in load(files[:4], batch=4)[1].calls] == [1] * 4


def test_groups_of_pictures_kept_at_their_size_are_bounded_by_pixels(files, monkeypatch):
    """Six pictures of 24 pixels and more, at most 60 a group; where networks take small inputs only, the batch decides."""
    monkeypatch.setattr("eval.features.GROUP_PIXELS", 60)
    Image.new("RGB", (20, 20), (20, 2, 0)).save(files[2])
    files[3].write_bytes(b"no picture")
    groups, network = load(files, batch=16)
    assert [[item.path.stem[-1] for item in group] for group in groups] == [["0", "1"], ["2"], ["3"], ["4", "5"], ["6"]]
    assert max(count * height * width for count, _, height, width in network.calls if count > 1) <= 60
    assert [item.features["red"].tolist() for group in groups for item in group if not item.error] == [
        [0], [10], [20], [40], [50], [60]
    ]  # fmt: skip
    small = Mean()
    small.prepare = LPIPS_INPUT
    assert [len(group) for group in load(files, network=small, batch=16)[0]] == [4, 3]


def test_a_picture_that_memory_cannot_hold_is_named(files):
    def prepare(rgb):
        raise MemoryError

    found = decode(Order(files[0], (("x", prepare),)))
    assert found.error == "too large for the memory that is left (6x4)"


def test_networks_get_red_first(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    found = decode(Order(tmp_path / "a.png", (("lpips", LPIPS_INPUT), ("fid", AS_IT_IS)))).inputs
    for pixels in found.values():
        assert np.array_equal(pixels, rgb.transpose(2, 0, 1)) and pixels.dtype == np.uint8
