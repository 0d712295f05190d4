"""The measures of quality.py: each must notice when what it measures is wrong. Networks and models are stand-ins here."""

import json
import types

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import quality, quality_lora, quality_parts, quality_pictures, quality_style
from benchmarks.quality_measures import Figure, StyleClassifier, mean_interval, ranks, share_within
from benchmarks.quality_networks import Networks
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions
from jdiff_style.prompts import Prompt
from jdiff_style.recipe import make_recipe

SIDE, SEEDS = 16, (0, 1, 2)
STYLES = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 220)}
OBJECTS = [f"thing {letter}" for letter in "abcdefghijklmnop"]
ASKED = OBJECTS[:4]


def picture(number, colour, seed=0):
    """An object is a pattern of filled cells, a style is a colour; a little noise, so that no two are equal."""
    cells = np.random.default_rng(1000 + number).random((4, 4)) < 0.5
    mask = np.kron(cells, np.ones((SIDE // 4, SIDE // 4), bool))
    image = np.where(mask[..., None], np.array(colour), 230).astype(int)
    return np.clip(image + np.random.default_rng(seed + number).integers(-8, 9, image.shape), 0, 255).astype(np.uint8)


class StandIn:
    """Looks at patterns and colours as Networks looks at pictures."""

    def look(self, pictures, title=""):
        rows = np.stack(pictures).astype(float)
        cells = rows.mean(axis=3).reshape(len(rows), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4)).reshape(len(rows), -1)
        features = (cells < cells.mean(axis=1, keepdims=True)).astype(float) - 0.5
        colours = np.concatenate([rows.mean(axis=(1, 2)), rows.std(axis=(1, 2))], axis=1)
        return features, colours

    def clip_images(self, pictures, title=""):
        return self.look(pictures)[0]

    def clip_texts(self, words):
        return self.look([picture(OBJECTS.index(word), (0, 0, 0)) for word in words])[0]

    def distances(self, drawn, true):
        return np.array([np.abs(a.astype(float) - b).mean() for a, b in zip(drawn, true)])


@pytest.fixture
def world(tmp_path):
    """Data of one base style and three others, a pack of these three with targets; the settings that name them."""
    data, pack = tmp_path / "data", tmp_path / "pack"
    data.mkdir()
    files = (("images.npy", "metadata.jsonl"), ("styles.npy", "styles.jsonl"))
    for names, styles in zip(files, ({"noto": (120, 120, 120)}, STYLES)):
        images, rows = [], []
        for style, colour in styles.items():
            for number, name in enumerate(OBJECTS):
                images.append(picture(number, colour, 77))
                split = "held_out" if number >= 12 else "train"
                rows.append({"object": name, "style": style, "set": f"set-{style}", "split": split})
        np.save(data / names[0], np.stack(images))
        (data / names[1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    about = {}
    for number, (style, colour) in enumerate(STYLES.items()):
        folder = pack / f"{number:02d}"
        for part in ("images", "targets"):
            (folder / part).mkdir(parents=True)
        Image.fromarray(picture(99, colour)).save(folder / "images" / "reference.png")
        for n, word in enumerate(ASKED):
            Image.fromarray(picture(n, colour)).save(folder / "targets" / f"{word}.png")
        (folder / "prompt.json").write_text(json.dumps({str(n): word for n, word in enumerate(ASKED)}))
        about[folder.name] = {"style": f"set-{style}"}
    (pack / "about.json").write_text(json.dumps(about))
    nothing, base = tmp_path / "nothing", tmp_path / "base"
    base.mkdir()
    (base / "words.txt").write_text("".join(f"{name}\n" for name in OBJECTS[:12]))
    return quality_parts.Settings(base, nothing, data, pack, nothing, nothing, tmp_path / "out", "cpu", SEEDS)


def drawer(with_lora, alone, drafts=None):
    """A stand-in for draw_all: functions (style number, object number, seed) -> picture."""

    def draw(base, lora, prompts, options, out, label, device):
        files = {}
        for prompt in prompts:
            file = out / f"{label}-{options.seed}" / prompt.style / f"{prompt.word}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            make = with_lora if lora else drafts if prompt.draft else alone
            Image.fromarray(make(int(prompt.style), ASKED.index(prompt.word), 10 * options.seed + 5)).save(file)
            files[prompt.style, prompt.word] = file
        return files

    return draw


def in_style(style, number, seed):
    return picture(number, list(STYLES.values())[style], seed)


def in_grey(style, number, seed):
    return picture(number, (120, 120, 120), seed)


def measured(world, monkeypatch, with_lora, alone=in_grey, totals=(0.5, 0.25), reconstructed=list, drafts=None):
    """`drafts` is what the base draws where it starts from a draft."""
    monkeypatch.setattr(quality_lora, "reconstruct", lambda settings, pictures: reconstructed(pictures))
    values = {"caption_template": "a {trigger} emoji of {object}", "grid_steps": 2, "resolution": SIDE}
    if drafts:
        values |= {"draft_template": "a drawing of {object}", "draft_strength": 0.5}

    def train(file, changes, *_):
        recipe = make_recipe(values | {"seed": changes["seed"]})
        return quality_pictures.Trained(world.out / "run", recipe, 100.0)

    monkeypatch.setattr(quality_lora, "train", train)
    monkeypatch.setattr(quality_lora, "draw_all", drawer(with_lora, alone, drafts))
    monkeypatch.setattr(
        quality_lora, "draw_words", lambda settings, words, seed: [in_grey(0, OBJECTS.index(w), seed) for w in words]
    )

    def total(settings, pack, files):
        alone = next(iter(files.values())).parents[1].name.startswith("alone")
        return {"value": totals[alone], "why": "", "parts": {"dino": 0.5}}

    monkeypatch.setattr(quality_lora, "total", total)
    return quality_lora.measure_lora(world, StandIn())


def passed(figures):
    return {name: figure.passed for name, figure in figures.items() if figure.passed is not None}


def test_a_lora_that_draws_the_truth_reaches_every_goal(world, monkeypatch):
    found = measured(world, monkeypatch, in_style)
    assert passed(found) == dict.fromkeys(["style", "style_alone", "objects", "total", "nearer", "seconds"], True)
    assert found["classifier"].value == found["style"].value == found["objects"].value == 1.0
    assert found["style_alone"].value == pytest.approx(1 / 3)  # grey is always taken for the same style
    assert found["nearer"].value == 3 and found["total"].value == 2.0
    assert found["style"].details["per_style"]["01"]["style named right"] == {"mean": 1.0, "interval": [1.0, 1.0]}
    report = {"parts": {"lora": {"figures": {name: figure.as_json() for name, figure in found.items()}}}}
    text = quality.card_table(report)
    assert "with seeds 0, 1, 2;" in text and "| distance of the base alone |" in text and "| 01: " in text


def test_pictures_in_the_wrong_style_miss_the_style(world, monkeypatch):
    found = measured(world, monkeypatch, lambda style, number, seed: in_style((style + 1) % 3, number, seed))
    assert found["style"].value == 0.0 and found["style"].passed is False and found["objects"].passed


def test_shuffled_styles_are_right_by_chance(world, monkeypatch):
    draws = np.random.default_rng(5)
    found = measured(world, monkeypatch, lambda style, number, seed: in_style(int(draws.integers(3)), number, seed))
    low, high = found["style"].interval
    assert low < 1 / 3 < high and found["style"].passed is False


def test_pictures_of_the_wrong_object_miss_the_objects(world, monkeypatch):
    found = measured(world, monkeypatch, lambda style, number, seed: in_style(style, number + 5, seed))
    assert found["objects"].value == 0.0 and found["objects"].passed is False and found["style"].value == 1.0


def test_a_lora_without_effect_misses_style_and_likeness(world, monkeypatch):
    found = measured(world, monkeypatch, in_grey, totals=(0.3, 0.25))
    assert found["style"].passed is found["nearer"].passed is found["total"].passed is False
    assert found["nearer"].details["not nearer"] == ["00", "01", "02"] and found["objects"].value == 1.0


def half_wrong(style, number, seed):
    """Every second object is another one."""
    return in_style(style, number + 5 * (number % 2), seed)


def test_objects_are_compared_with_what_the_base_alone_draws_under_the_same_prompts(world, monkeypatch):
    """Half of them wrong with the LoRA; the base alone draws none or all of them right, in its own style."""

    def wrong(style, number, seed):
        return in_grey(style, number + 5, seed)

    found = measured(world, monkeypatch, half_wrong)
    assert found["objects"].value == found["objects_own_style"].value == 0.5 and found["objects"].passed is False
    assert found["objects"].details["the same, among those of the base's own style"] == 1.0
    found = measured(world, monkeypatch, half_wrong, alone=wrong)
    assert found["objects"].value is None and found["objects_own_style"].value == 0.5


def test_objects_are_compared_with_those_of_the_drafts(world, monkeypatch):
    """Half of them lost over the drafts, where the base alone knows no better than the LoRA."""

    found = measured(world, monkeypatch, half_wrong, alone=half_wrong, drafts=in_style)
    assert found["objects"].value == 1.0 and found["objects_drafts"].value == 0.5 and found["objects_drafts"].passed is None


def test_a_base_that_draws_the_styles_already_is_noticed(world, monkeypatch):
    found = measured(world, monkeypatch, in_style, alone=in_style)
    assert found["style_alone"].passed is False and found["nearer"].passed is False


def test_what_the_drafts_alone_bring_is_told_apart(world, monkeypatch):
    """The goals are over the base alone; beside them stands what the LoRA adds to its drafts."""
    found = measured(world, monkeypatch, in_style, drafts=in_style)
    assert found["nearer"].passed and found["nearer_drafts"].value == 0 and found["nearer_drafts"].passed is None
    assert found["style_alone"].passed and found["style_alone"].details == {"its drafts": 1.0}
    assert found["total"].value == 2.0 and found["total_drafts"].value == 1.0
    assert found["objects"].details["top1 of its drafts, same prompts"] == found["objects_drafts"].value == 1.0
    assert not any(name.endswith("drafts") for name in measured(world, monkeypatch, in_style))


def test_a_total_that_cannot_be_computed_has_not_reached_its_goal(world, monkeypatch):
    found = measured(world, monkeypatch, in_style, totals=(0.5, None))
    assert found["total"].value is None and found["total"].passed is False


def test_the_classifier_learns_from_no_word_of_the_pack_and_is_examined_on_held_out_objects(world, monkeypatch):
    seen = []

    class Spy(StyleClassifier):
        def __init__(self, statistics, labels):
            seen.append(len(labels))
            super().__init__(statistics, labels)

        def accuracy(self, statistics, labels):
            seen.append(len(labels))
            return super().accuracy(statistics, labels)

    monkeypatch.setattr(quality_style, "StyleClassifier", Spy)
    measured(world, monkeypatch, in_style)
    # 12 training objects less 4 words; 4 held out; four softened copies of each.
    assert seen == [5 * 3 * 8, 3 * 4, 4 * 3 * 4, 3 * 8, 3 * 4, 4 * 3 * 4]


def test_a_soft_picture_keeps_its_style_only_for_the_judge_that_has_met_softness(monkeypatch):
    class Sharpness:
        """Sees how much neighbouring pixels differ, besides the colour."""

        def look(self, pictures, title=""):
            rows = np.stack(pictures).astype(float)
            steps = np.abs(np.diff(rows, axis=1)).mean(axis=(1, 2))
            return rows, np.concatenate([steps, rows.mean(axis=(1, 2))], axis=1)

    crisp, other = ([picture(n, c, seed) for n in range(8) for seed in (1, 2, 3)] for c in ((200, 40, 40), (190, 50, 60)))
    smooth = [quality_style.softened(p)[1] for p in other]  # a style that is smooth by nature
    judge, strict = quality_style.teach(Sharpness(), [crisp, smooth], [crisp, []])
    assert judge.accuracy == strict.accuracy == 1.0
    assert judge.softened_accuracy > 0.9 and strict.softened_accuracy < 0.7


def test_the_autoencoder_alone_bounds_what_a_lora_can_reach(world, monkeypatch):
    found = measured(world, monkeypatch, in_style, reconstructed=lambda pictures: [p // 2 + 60 for p in pictures])
    assert found["ceiling"].details["distance"] > 20 and found["ceiling"].passed is None
    assert measured(world, monkeypatch, in_style)["ceiling"].value == 1.0


def base_part(world, monkeypatch, shown):
    monkeypatch.setattr(quality_parts, "draw_words", lambda settings, words, seed: [
        in_grey(0, shown(OBJECTS.index(word)), seed) for word in words])  # fmt: skip
    return quality_parts.measure_base(world, StandIn())


def test_base_pictures_are_searched_among_all_true_pictures(world, monkeypatch):
    found = base_part(world, monkeypatch, lambda number: number)
    assert passed(found) == {"top1": True, "top5": True, "clip_top5": True}
    assert found["top1"].value == 1.0 and found["top1"].details == {"pictures": 12, "candidates": 16}
    assert found["top1_held_out"].value == 1.0 and found["top1_held_out"].details["pictures"] == 4
    found = base_part(world, monkeypatch, lambda number: number if number % 3 == 0 else (number + 1) % 12)
    assert found["top1"].value == pytest.approx(4 / 12) and found["top1"].passed is False
    (world.base / "words.txt").write_text("".join(f"{name}\n" for name in OBJECTS[:12:3]))  # the words it was taught
    found = base_part(world, monkeypatch, lambda number: number if number % 3 == 0 else (number + 1) % 12)
    assert found["top1"].value == 1.0 and found["top1"].details == {"pictures": 4, "candidates": 16}
    (world.base / "words.txt").unlink()
    with pytest.raises(UserError, match=r"words\.txt says what it was trained on"):
        base_part(world, monkeypatch, lambda number: number)


def test_clip_is_asked_among_the_names_of_all_objects(world, monkeypatch):
    found = quality_parts.measure_clip(world, StandIn())
    assert found["top5_training"].passed and found["top5_training"].details["candidates"] == 16
    assert found["top5_held_out"].passed is None and found["top5_other_styles"].details["pictures"] == 36
    blind = StandIn()
    monkeypatch.setattr(blind, "clip_images", lambda pictures, title="": np.ones((len(pictures), 16)))
    assert quality_parts.measure_clip(world, blind)["top5_training"].passed is False


@pytest.mark.parametrize("error", [0, 10, 40])
def test_psnr_is_that_of_the_held_out_pictures(world, monkeypatch, error):
    class Vae:
        def __getattr__(self, name):
            return lambda *_: self

        @staticmethod
        def encode(pictures):
            return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mean=pictures * 0.5))

        @staticmethod
        def decode(latents):
            return types.SimpleNamespace(sample=latents * 2 + error / 127.5)

    for name in ("images", "styles"):  # room for the error below 255, and other pictures where none is to be measured
        pictures = np.load(world.data / f"{name}.npy") // 2
        rows = (world.data / {"images": "metadata.jsonl", "styles": "styles.jsonl"}[name]).read_text().splitlines()
        for number, row in enumerate(rows):
            if json.loads(row)["split"] == "train":
                pictures[number] = 255
        np.save(world.data / f"{name}.npy", pictures)
    monkeypatch.setattr(quality_parts.AutoencoderKL, "from_pretrained", lambda *_, **__: Vae())
    found = quality_parts.measure_vae(world, StandIn())["psnr_held_out"]
    wanted = 20 * np.log10(255 / (error or 0.25))
    assert found.value == pytest.approx(wanted, abs=1e-6) and found.passed == (wanted >= 26)
    assert found.details["pictures"] == 4


def test_ranks_count_ties_against_the_picture_and_refuse_what_is_no_number():
    candidates = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 5.0]])
    assert ranks(np.array([[3.0, 0.0], [0.1, 1.0], [1.0, 0.9]]), candidates, [0, 1, 1]).tolist() == [0, 1, 3]
    assert share_within(np.array([0, 1, 3]), 2) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="not a number"):
        ranks(np.array([[np.nan, 0.0]]), candidates, [0])


def test_the_classifier_tells_classes_apart_and_learns_nothing_from_shuffled_ones():
    draws = np.random.default_rng(0)
    centres = 0.6 * draws.standard_normal((8, 60))
    mixing = draws.standard_normal((60, 60)) / 8  # the numbers go together, as those of neighbouring channels do

    def sample(count):
        labels = np.repeat(np.arange(8), count)
        return (centres[labels] + draws.standard_normal((8 * count, 60))) @ mixing * 50 + 7, labels

    (lessons, labels), (exam, answers) = sample(30), sample(40)
    assert StyleClassifier(lessons, labels).accuracy(exam, answers) > 0.9
    shuffled = StyleClassifier(lessons, draws.permutation(labels)).accuracy(exam, answers)
    assert shuffled < 0.25
    assert StyleClassifier(lessons, labels).accuracy(exam, draws.permutation(answers)) == pytest.approx(1 / 8, abs=0.07)


def test_intervals_of_few_seeds_are_student_s():
    assert mean_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5)))
    assert mean_interval([0.5]) == (0.5, None)


@pytest.mark.parametrize(
    "value, goal, falls, wanted",
    [(26.0, 26.0, False, True), (25.9, 26.0, False, False), (30.0, 30.0, True, True), (31.0, 30.0, True, False),
     (None, 1.0, False, False), (float("nan"), 1.0, True, False), (5.0, None, False, None)],
)  # fmt: skip
def test_goals(value, goal, falls, wanted):
    assert Figure("x", value, goal, falls).passed is wanted


PROMPTS = [Prompt("00", str(n), f"word {n}", f"a word {n}") for n in range(10)]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """(a base folder, a list of what was drawn); drawing itself is a stand-in."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "weights").write_text("1")
    calls = []

    def draw(pipeline, prompts, options, drafter=None):
        calls.append([prompt.word for prompt in prompts])
        return [Image.new("RGB", (8, 8), (options.seed, 0, 0)) for _ in prompts]

    monkeypatch.setattr(quality_pictures, "load_pipeline", lambda *_: None)
    monkeypatch.setattr(quality_pictures, "draw", draw)
    return base, calls


def test_drawing_goes_on_where_it_was_and_mixes_nothing(drawn, monkeypatch, tmp_path):
    base, calls = drawn
    options = SamplingOptions(steps=2, seed=3)
    monkeypatch.setattr(quality_pictures, "BATCH", 4)
    first = quality_pictures.draw_all(base, None, PROMPTS[:4], options, tmp_path / "out", "x", "cpu")
    again = quality_pictures.draw_all(base, None, PROMPTS[:4], options, tmp_path / "out", "x", "cpu")
    assert first == again and calls == [["word 0", "word 1", "word 2", "word 3"]]
    first["00", "word 2"].write_bytes(b"half")
    first["00", "word 0"].unlink()
    quality_pictures.draw_all(base, None, PROMPTS[:4], options, tmp_path / "out", "x", "cpu")
    assert calls[1:] == [["word 0", "word 2"]]
    (base / "README.md").write_text("a card")
    assert quality_pictures.draw_all(base, None, PROMPTS[:4], options, tmp_path / "out", "x", "cpu") == first
    (base / "weights").write_text("2")
    assert quality_pictures.draw_all(base, None, PROMPTS[:4], options, tmp_path / "out", "x", "cpu") != first
    lora = tmp_path / "lora"
    lora.write_text("3")
    others = [(lora, options), (None, SamplingOptions(steps=3, seed=3)), (None, options)]
    folders = {
        quality_pictures.draw_all(base, file, PROMPTS[:1], how, tmp_path / "out", "x", "cpu")["00", "word 0"].parent
        for file, how in others
    }
    assert len(folders) == 3


@pytest.mark.usefixtures("drawn")
def test_a_training_run_is_made_once_and_resumed_where_it_stopped(monkeypatch, tmp_path):
    from jdiff_style.lora_files import LORA_FILE

    recipe, commands = tmp_path / "r.yaml", []
    recipe.write_text("steps: 5\nbase: base\n")
    pack = types.SimpleNamespace(fingerprint=lambda: "0")

    def command(words):
        commands.append(words[1])
        if words[1] == "--resume":
            run = quality_pictures.Path(words[2])
        else:
            run = quality_pictures.Path(words[words.index("--out") + 1]) / "00000-x"
            run.mkdir(parents=True)
            if "--seed" in words and words[words.index("--seed") + 1] == "7":
                raise KeyboardInterrupt
        (run / LORA_FILE).write_text("lora")

    monkeypatch.setattr(quality_pictures, "_command", command)
    one = quality_pictures.train(recipe, {"seed": 1}, pack, tmp_path / "runs")
    assert one.lora.is_file() and one.seconds is not None and one.recipe.steps == 5
    assert quality_pictures.train(recipe, {"seed": 1}, pack, tmp_path / "runs").run == one.run
    assert commands == ["--recipe"]
    with pytest.raises(KeyboardInterrupt):
        quality_pictures.train(recipe, {"seed": 7}, pack, tmp_path / "runs")
    stopped = quality_pictures.train(recipe, {"seed": 7}, pack, tmp_path / "runs")
    assert commands == ["--recipe", "--recipe", "--resume"] and stopped.seconds is None and stopped.lora.is_file()
    recipe.write_text("steps: 6\nbase: base\n")
    assert quality_pictures.train(recipe, {"seed": 1}, pack, tmp_path / "runs").run != one.run


def test_networks_look_once_and_agree_with_the_network_itself(tmp_path, monkeypatch):
    from eval import weights
    from eval.networks.efficientnet_lite import EfficientNetLite0, prepare

    pictures = [picture(number, (200, 40, 40)) for number in range(2)]
    networks = Networks(tmp_path / "cache", tmp_path)
    features, statistics = networks.look(pictures)
    network = EfficientNetLite0.from_file(weights.find("efficientnet_lite0").path)
    inputs = torch.from_numpy(np.stack([prepare(Image.fromarray(p)) for p in pictures]))
    last, style = network.describe(inputs)
    assert features == pytest.approx(last.cpu().numpy(), abs=1e-4)
    assert statistics == pytest.approx(style.cpu().numpy(), abs=1e-4)
    again = Networks(tmp_path / "cache", tmp_path)
    monkeypatch.setattr(again, "_describe", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(again.look(pictures[::-1])[0], features[::-1])
    same, other = networks.distances(pictures, pictures[::1]), networks.distances(pictures, pictures[::-1])
    assert same == pytest.approx([0, 0], abs=1e-5) and other[0] > 0.01 and other[0] == pytest.approx(other[1], abs=1e-4)
    with pytest.raises(UserError, match=r"clip=.* lacks config.json"):
        networks.clip_texts(["x"])


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`command(*words)` runs quality.py on folders of next to nothing; figures[part] are what is measured."""
    styles = {"noto": 28.0, "00": {"tags": "flat", "style named right": {"mean": 0.9, "interval": [0.8, 1.0]}}}
    figures = {
        "vae": {"psnr": Figure("PSNR", 27.0, 26.0, unit="dB", details={"per_style": styles})},
        "clip": {"top5": Figure("top 5", 0.9, 0.8)},
        "speed": {"tiny": Figure("tiny", None, 30.0, True, "s", "the run was interrupted")},
    }
    for name in ("base", "clip", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    for module, name in ((quality_parts, "vae"), (quality_parts, "clip"), (quality_lora, "speed")):
        monkeypatch.setattr(module, f"measure_{name}", lambda *_, name=name: figures[name])
    places = [word for name in ("base", "clip", "data") for word in (f"--{name}", tmp_path / name)]
    words = [*places, "--out", tmp_path / "out", "--tiny-recipe", tmp_path / "base" / "file"]
    return (lambda *more: quality.main([str(word) for word in (*words, *more)])), figures


def test_every_figure_is_printed_with_its_goal_and_the_exit_code_says_whether_all_were_reached(command, capsys, tmp_path):
    run, figures = command
    assert run("--only", "vae", "clip") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "passed  vae.psnr: PSNR: 27 dB (goal: at least 26 dB)"
    assert [text.strip() for text in lines[1:3]] == ["noto: 28", "00: style named right 0.9 [0.8, 1]"]
    figures["clip"]["top5"] = Figure("top 5", 0.7, 0.8, interval=(0.6, 0.8))
    assert run("--only", "clip") == 1
    assert "MISSED  clip.top5: top 5: 0.7 [0.6, 0.8] (goal: at least 0.8)" in capsys.readouterr().out
    assert run("--only", "speed") == 1
    assert "MISSED  speed.tiny: tiny: not computed: the run was interrupted (goal: at most 30 s)" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert [report["parts"][part]["figures"] != {} for part in ("vae", "clip", "speed")] == [True] * 3
    assert report["parts"]["clip"]["figures"]["top5"]["passed"] is False
    (tmp_path / "base" / "file").write_text("another model")
    assert run("--only", "vae") == 0
    assert list(json.loads((tmp_path / "out" / "quality.json").read_text())["parts"]) == ["vae"]


def test_each_card_gets_the_figures_of_its_model(command, capsys, tmp_path):
    from jdiff_style.hashes import check_sums

    run, _ = command
    assert run("--only", "vae", "--write-card") == 1 and "--write-card: " in capsys.readouterr().err
    for name in ("base", "clip"):
        (tmp_path / name / "README.md").write_text("# A model\n<!-- figures -->\n<!-- end of figures -->\nend\n")
    assert run("--only", "vae", "clip", "--write-card") == 0
    base, clip = ((tmp_path / name / "README.md").read_text() for name in ("base", "clip"))
    assert "| PSNR | 27 dB | at least 26 dB | reached |" in base and "top 5" not in base and base.endswith("end\n")
    assert "| top 5 | 0.9 | at least 0.8 | reached |" in clip and "PSNR" not in clip and clip.endswith("end\n")
    for name in ("base", "clip"):
        check_sums(tmp_path / name, name)


@pytest.mark.parametrize(
    "words, message",
    [
        (("--only", "vae", "--words", 0), "--words: 0 is below 1"),
        (("--only", "vae", "--seeds", 1, 1), "--seeds: 1 1 names one twice"),
        (("--only", "vae", "--data", "nowhere"), "--data: nowhere is not a folder; build it with"),
        (("--only", "lora"), "emoji.yaml"),
    ],
)
def test_bad_input_is_one_sentence(command, capsys, monkeypatch, words, message):
    run, _ = command
    if words == ("--only", "lora"):
        words = (*words, "--recipe", "none/emoji.yaml")
    assert run(*words) == 1
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1


def test_a_dry_run_measures_nothing(command, capsys, tmp_path):
    run, figures = command
    figures.clear()
    assert run("--dry-run") == 0 and "seeds: [0, 1, 2]" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
