"""scripts/make_emoji_features.py: what it writes, and going on after a stop."""

import json

import numpy as np
import pytest

from jdiff_style.picture_features import read_features, read_info
from scripts.emoji_data import features


@pytest.fixture
def data(tmp_path):
    """Three pictures to train on and two in another style."""
    for name, lines, count in (("images.npy", "metadata.jsonl", 3), ("styles.npy", "styles.jsonl", 2)):
        np.save(tmp_path / name, np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))
        row = json.dumps({"object": "cup", "style": "flat", "split": "train"}) + "\n"
        (tmp_path / lines).write_text(row * count)
    return tmp_path


def test_features_fit_the_pictures_and_a_stopped_run_goes_on_to_the_same(data, monkeypatch, capsys):
    monkeypatch.setattr(features, "BATCH", 1)
    assert features.main(["--data", str(data), "--altered", "1", "--decoded", "2"]) == 0
    info = read_info(data)
    assert (info["network"], info["width"], set(info["of"])) == ("EfficientNet-Lite0", 1280, {"images.npy", "styles.npy"})
    seen = read_features(data, "images.npy", 3, 1280)
    assert seen.shape == (3, 4, 1280) and read_features(data, "styles.npy", 2, 1280).shape == (2, 1, 1280)
    assert (seen >= 0).all() and not np.array_equal(seen[0], seen[1])
    assert all(not np.array_equal(seen[:, one], seen[:, two]) for one, two in ((0, 1), (0, 2), (1, 2), (2, 3)))
    whole = np.array(seen)
    for file in data.glob("*features*"):
        file.unlink()
    for file in data.glob(".*"):
        file.unlink()

    made = []
    original = features._features

    def stopped(*arguments):
        made.append(arguments[2])
        if len(made) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(features, "_features", stopped)
        assert features.main(["--data", str(data), "--altered", "1", "--decoded", "2"]) == 130
    assert "run it again" in capsys.readouterr().err and not (data / "features.json").exists()
    monkeypatch.setattr(features, "_features", lambda *a: (made.append(a[2]), original(*a))[1])
    assert features.main(["--data", str(data), "--altered", "1", "--decoded", "2"]) == 0
    assert made == [0, 1, 2, 2, 0, 1]  # the third picture again, then the other style's two
    assert np.array_equal(read_features(data, "images.npy", 3, 1280), whole)
    made.clear()
    assert json.loads((data / "features.json").read_text())["decoded"] == 2
    assert features.main(["--data", str(data), "--altered", "1", "--decoded", "2"]) == 0 and not made


def test_pictures_that_were_not_built_are_one_sentence(tmp_path, capsys):
    assert features.main(["--data", str(tmp_path)]) == 1
    assert "images.npy is missing" in capsys.readouterr().err


def test_an_autoencoder_that_is_none_is_one_sentence(data, capsys):
    assert features.main(["--data", str(data), "--decoded", "1", "--vae", str(data)]) == 1
    assert "vae: " in capsys.readouterr().err and not (data / "features.json").exists()


def test_without_decoded_copies_no_autoencoder_is_asked_for(data):
    assert features.main(["--data", str(data), "--altered", "0", "--vae", "nowhere"]) == 0
    assert read_features(data, "images.npy", 3, 1280).shape == (3, 1, 1280)
