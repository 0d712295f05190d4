"""Drafts: what noise on them stands for, that they are drawn by the base alone, and what pictures are made from."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jdiff_style import parallel
from jdiff_style.drafts import (
    FIRST_TIMESTEP,
    Drafter,
    colour_distance,
    draft_timesteps,
    load_drafter,
    noise_with_drafts,
    strengths_of_styles,
)
from jdiff_style.errors import UserError
from jdiff_style.generate import SamplingOptions, draw, in_batches, load_pipeline
from jdiff_style.lora_files import STRENGTHS_FILE
from jdiff_style.prompts import Prompt, PromptOptions

WEAK = SamplingOptions(steps=10, draft_strength=0.1)
TEMPLATE = "a drawing of {object}"


def prompt(style, word, draft=TEMPLATE):
    return Prompt(style, "0", word, f"style_{style}, {word}", draft=draft.format(object=word))


def pixels(pictures):
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@pytest.fixture(scope="module")
def with_lora(tiny_base, tmp_path_factory):
    """The tiny base with a merged LoRA whose effect is large."""
    from jdiff_style import lora

    pipeline = load_pipeline(tiny_base, None, WEAK)
    generator = torch.Generator().manual_seed(1)
    lora.attach(pipeline.unet, lora.UNET_TARGETS, 8)
    with torch.no_grad():
        for _, layer in lora.lora_layers(pipeline.unet):
            for matrix in (layer.lora_A[lora.ADAPTER], layer.lora_B[lora.ADAPTER]):
                matrix.weight.copy_(torch.randn(matrix.weight.shape, generator=generator) * 0.3)
    return load_pipeline(tiny_base, lora.save_lora(tmp_path_factory.mktemp("lora"), pipeline.unet), WEAK)


@given(seed=st.integers(0, 99), share=st.floats(0, 1))
def test_a_noisy_picture_is_a_noisy_draft(seed, share):
    """Under the noise that it gives, the picture's own latents become those of the draft, or of what lies between. What is
    before the first timestep has the noise that it had there.
    """
    rng = np.random.default_rng(seed)
    noise, clean, drafts = (rng.normal(size=(3, 2, 4, 4)).astype(np.float32) for _ in range(3))
    alphas = np.linspace(0.999, 0.0, 1000, dtype=np.float32)
    steps = np.array([FIRST_TIMESTEP - 1, FIRST_TIMESTEP, 999])
    found = noise_with_drafts(
        *(torch.from_numpy(values) for values in (noise, clean, drafts)), torch.full((3,), share), torch.from_numpy(steps),
        torch.from_numpy(alphas),
    ).numpy()  # fmt: skip
    a, s = (np.sqrt(values)[steps].reshape(3, 1, 1, 1) for values in (alphas, 1 - alphas))
    mixed = clean + share * (drafts - clean)
    np.testing.assert_allclose((a * clean + s * found)[1:], (a * mixed + s * noise)[1:], atol=2e-5)
    carried = share * (a / s)[1] * (drafts - clean)[0]
    np.testing.assert_allclose(found[0], noise[0] + carried, atol=2e-5)


def test_a_draft_is_drawn_once_by_the_base_alone(tiny_base, with_lora):
    """Whatever the styles, the batch and the LoRA; almost without noise on it, it is the picture."""
    drafter = load_drafter(tiny_base, WEAK)
    texts = []
    original = drafter.pipeline.encode_prompt
    drafter.pipeline.encode_prompt = lambda asked, *rest, **more: (texts.extend(asked), original(asked, *rest, **more))[1]
    both = [prompt("00", "Ring"), prompt("00", "Hotel"), prompt("01", "Ring")]
    draw(with_lora, both[:2], WEAK, drafter=drafter)
    draw(with_lora, both[2:], WEAK, drafter=drafter)
    assert texts == ["a drawing of Ring", "a drawing of Hotel"]
    again = Drafter(load_pipeline(tiny_base, None, WEAK), WEAK).latents(["a drawing of Hotel"])
    assert torch.allclose(again[0], drafter.kept["a drawing of Hotel"], atol=1e-4)
    other = Drafter(load_pipeline(tiny_base, None, WEAK), SamplingOptions(steps=10, seed=1)).latents(["a drawing of Hotel"])
    assert not torch.allclose(again, other, atol=1e-2)


def test_drafts_have_a_guidance_of_their_own(tiny_base):
    pipeline = load_pipeline(tiny_base, None, WEAK)
    settings = ({"guidance": 1.0, "draft_guidance": 6.0}, {"guidance": 6.0}, {"guidance": 6.0, "draft_guidance": 1.0})
    own, same, none = (Drafter(pipeline, SamplingOptions(steps=4, **one)).latents(["a drawing of Ring"]) for one in settings)
    assert torch.equal(own, same) and not torch.allclose(own, none, atol=1e-2)


def test_strength_is_how_far_a_picture_goes_from_its_draft(tiny_base):
    options = [SamplingOptions(steps=10, scheduler="ddim", draft_strength=strength) for strength in (0.1, 0.5, 1.0)]
    pipeline, drafter = load_pipeline(tiny_base, None, options[0]), load_drafter(tiny_base, options[0])
    asked = prompt("00", "Ring")
    with torch.no_grad():
        latents = drafter.latents([asked.draft]) / pipeline.vae.config.scaling_factor
        decoded = pipeline.vae.decode(latents).sample
    draft = np.clip((decoded[0].permute(1, 2, 0).numpy() + 1) * 127.5, 0, 255)
    seen = []
    pictures = pixels([draw(pipeline, [asked], o, lambda done, _: seen.append(done), drafter)[0] for o in options])
    away = [np.abs(picture - draft).mean() for picture in pictures]
    assert away[0] < away[1] < away[2]
    assert seen == [1, *range(1, 6), *range(1, 11)]


def test_a_picture_from_a_draft_does_not_depend_on_its_batch(tiny_base, with_lora):
    options = SamplingOptions(steps=4, draft_strength=0.5)
    asked = [prompt("00", "Ring"), prompt("01", "Hotel")]
    together = pixels(draw(with_lora, asked, options, drafter=load_drafter(tiny_base, options)))
    alone = pixels([draw(with_lora, [one], options, drafter=load_drafter(tiny_base, options))[0] for one in asked])
    assert np.abs(together - alone).max() <= 1 and np.abs(together[0] - together[1]).max() > 8


@pytest.mark.parametrize("template", ["a drawing", "a {style} of {object}", "a {object"])
def test_a_template_needs_the_object_and_nothing_else(template):
    with pytest.raises(UserError, match="--draft"):
        PromptOptions(draft=template)


@pytest.mark.parametrize("name", ["guidance", "draft_guidance"])
@pytest.mark.parametrize("scale", [-1, 101, float("nan")])
def test_a_guidance_that_is_none_is_refused(name, scale):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}: "):
        SamplingOptions(**{name: scale})


@pytest.mark.parametrize("strength", [0, -1, 1.5, float("nan")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(UserError, match="--draft-strength"):
        SamplingOptions(steps=10, draft_strength=strength)


def test_the_command_draws_from_drafts_and_records_them(tiny_base, pack_folder, tmp_path, capsys):
    words = ["--base", str(tiny_base), "--pack", str(pack_folder), "--out", str(tmp_path / "out"), "--steps", "2"]
    words += ["--limit", "1"]
    assert parallel.main([*words, "--draft", TEMPLATE]) == 0
    first = {file.parent.name: file.read_bytes() for file in sorted((tmp_path / "out").glob("0*/*.png"))}
    record = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert record["prompts"]["00/Ring"][2] == "a drawing of Ring" and record["settings"]["draft_strength"] == 0.5
    (tmp_path / "out" / "00" / "Ring.png").unlink()
    for changed, message in ((["--draft", "a sketch of {object}"], "a drawing of Ring"),
                             (["--draft", TEMPLATE, "--draft-strength", "0.6"], "draft_strength 0.5, not 0.6"),
                             (["--draft", TEMPLATE, "--draft-strength", "0.4"], "leaves none of 2 steps"),
                             ([], "a drawing of Ring")):  # fmt: skip
        assert parallel.main([*words, *changed]) == 1
        assert message in capsys.readouterr().err
    assert parallel.main([*words, "--draft", TEMPLATE]) == 0
    assert (tmp_path / "out" / "00" / "Ring.png").read_bytes() == first["00"]


def test_a_run_says_from_which_drafts_its_pictures_are_made(tiny_base, pack_folder, tmp_path, jdiff, capsys):
    """The recipe's, in its grid and for the command; an empty text turns them off."""
    line = ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "runs", "--steps", 1,
            "--resolution", 32, "--rank-per-style", 2, "--grid-steps", 2, "--grid-words", 1, "--drafts", 0.5]  # fmt: skip
    code, _, err = jdiff(*line, "--draft-template", TEMPLATE, "--draft-strength", 0.7, "--draft-guidance", 3)
    assert code == 0, err
    (run,) = (tmp_path / "runs").glob("0*")
    for options, drafts in ((), True), (("--draft", ""), False):
        code = parallel.main(["--run", str(run), "--out", str(tmp_path / "out"), "--dry-run", *options])
        shown = capsys.readouterr().out
        assert code == 0 and ("from 'a drawing of Ring'" in shown) == drafts and "draft_strength: 0.7" in shown
        assert "draft_guidance: 3.0" in shown and "guidance: 7.5" in shown


def test_a_style_with_a_tag_has_drafts_of_its_own(tiny_base, pack_folder, tmp_path, jdiff, capsys, monkeypatch):
    """In training, in its grid and for the command, which may ask for other drafts of all styles."""
    asked, latents = [], Drafter.latents
    monkeypatch.setattr(Drafter, "latents", lambda self, texts: (asked.append(texts), latents(self, texts))[1])
    line = ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "runs", "--steps", 1,
            "--resolution", 32, "--rank-per-style", 2, "--grid-steps", 2, "--grid-words", 1, "--drafts", 0.5]  # fmt: skip
    by_tag = "Style Tag 1=an icon of {object}; bold={object}"
    code, _, err = jdiff(*line, "--draft-template", TEMPLATE, "--draft-templates", by_tag)
    assert code == 0, err
    assert "drafts of style 01: an icon of {object}" in err and "drafts of style 00" not in err
    assert "no style of the pack has the tag 'bold'" in err
    drawings, icons = ([f"{kind} of {word}" for word in ("boat", "red apple")] for kind in ("a drawing", "an icon"))
    assert asked[0] == drawings + icons and asked[1] == ["a drawing of Ring", "an icon of Ring"]
    (run,) = (tmp_path / "runs").glob("0*")
    words = ["--run", str(run), "--out", str(tmp_path / "out"), "--limit", "1", "--steps", "2"]
    own, same = ["'a drawing of Ring'", "'an icon of Ring'"], ["'my Ring'"] * 2
    for options, drafts in ((), own), (("--draft", "my {object}"), same):
        assert parallel.main([*words, "--dry-run", *options]) == 0
        shown = capsys.readouterr().out
        assert [line.split(", from ")[1] for line in shown.splitlines() if ", from " in line] == drafts
    assert parallel.main(words) == 0
    record = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert [texts[2] for texts in record["prompts"].values()] == ["a drawing of Ring", "an icon of Ring"]


def test_the_grid_is_made_from_drafts_of_the_base_without_its_lora(tiny_base, pack_folder, tmp_path, monkeypatch):
    from jdiff_style import grid, lora
    from jdiff_style.packs import load_pack
    from jdiff_style.recipe import make_recipe

    recipe = make_recipe({"resolution": 32, "grid_steps": 2, "grid_words": 1, "draft_template": TEMPLATE})
    seen, strengths = [], []
    monkeypatch.setattr(
        grid, "from_drafts", lambda p, drafts, s: (seen.append(drafts), strengths.append(s), from_drafts(p, drafts, s))[2]
    )
    from jdiff_style.generate import from_drafts

    for strange in (False, True):
        pipeline = load_pipeline(tiny_base, None, WEAK)
        lora.attach(pipeline.unet, lora.UNET_TARGETS, 4)
        if strange:
            with torch.no_grad():
                for _, layer in lora.lora_layers(pipeline.unet):
                    layer.lora_B[lora.ADAPTER].weight.fill_(0.5)
        place, device = tmp_path / f"{strange}.png", torch.device("cpu")
        grid.draw_grid(pipeline, load_pack(pack_folder), recipe, place, device, {"00": 0.9})
    assert strengths == [0.9, 0.5] * 2  # steps are two, so that a half is one
    assert len(seen) == 4 and torch.equal(torch.stack(seen[:2]), torch.stack(seen[2:]))
    assert (tmp_path / "True.png").read_bytes() != (tmp_path / "False.png").read_bytes()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--drafts", 0.5], "drafts: there are none without a draft_template"),
        (["--draft-strength-by-style"], "draft_strength_by_style: there are no drafts without a draft_template"),
        (["--draft-template", "a {style} of {object}"], "draft_template"),
        (["--draft-template", "a drawing"], "draft_template"),
        (["--draft-template", TEMPLATE, "--draft-strength", 0.01], "leaves none of 20 steps"),
    ],
)
def test_recipes_that_contradict_themselves(jdiff, pack_folder, tiny_base, options, message):
    code, _, err = jdiff("train", "--pack", pack_folder, "--base", tiny_base, "--dry-run", *options)
    assert code == 1 and message in err, err


def test_training_sees_noisy_drafts(jdiff, pack_folder, tiny_base, tmp_path):
    """With drafts the losses are others, and again at other timesteps; the share 0 with a template changes nothing."""
    line = ["train", "--pack", pack_folder, "--base", tiny_base, "--steps", 3, "--resolution", 32, "--rank-per-style", 2,
            "--grid-styles", 0, "--grid-steps", 2, "--draft-template", TEMPLATE, "--batch-size", 4]  # fmt: skip
    losses = []
    with_drafts = ["--drafts", 1], ["--drafts", 1, "--draft-timesteps", 100]
    for number, options in enumerate(([], ["--drafts", 0, "--draft-timesteps", 100], *with_drafts)):
        code, _, err = jdiff(*line, *options, "--out", tmp_path / str(number))
        assert code == 0, err
        (log,) = (tmp_path / str(number)).glob("0*/log.jsonl")
        losses.append([json.loads(row)["loss"] for row in log.read_text().splitlines()])
    assert losses[0] == losses[1] and all(len({a, b, c}) == 3 for a, b, c in zip(*losses[1:]))


def test_a_flipped_picture_has_a_flipped_draft(pack_folder, tiny_base, monkeypatch):
    from jdiff_style import train
    from jdiff_style.packs import load_pack
    from jdiff_style.recipe import make_recipe

    settings = {"resolution": 32, "rank_per_style": 2, "grid_steps": 2, "draft_template": TEMPLATE, "drafts": 1.0,
                "batch_size": 4}  # fmt: skip
    trainer = train.Trainer(make_recipe(settings), load_pack(pack_folder), tiny_base)
    seen = []

    def look(noise, clean, drafts, *rest):
        seen.append(drafts)
        return noise_with_drafts(noise, clean, drafts, *rest)

    monkeypatch.setattr(train, "noise_with_drafts", look)
    flips = set()
    for step in range(3):
        trainer.accumulate(step, 0, train.ALONE)
        for draft, (number, flipped) in zip(seen[-1], trainer.data.batch(step, 0).keys):
            own = trainer.drafts[number]
            assert torch.equal(draft, torch.flip(own, (-1,)) if flipped else own)
            flips.add(flipped)
    assert flips == {True, False}


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from((0.0, 0.01, 1.0))), min_size=1), st.integers(1, 1000))
def test_drafts_are_learnt_from_below_a_timestep(rows, limit):
    """Others keep theirs, and so does everything at 1000, where nothing is limited."""
    times, shares = (list(column) for column in zip(*rows))
    found = draft_timesteps(torch.tensor(times), torch.tensor(shares), limit).tolist()
    assert draft_timesteps(torch.tensor(times), torch.tensor(shares), 1000).tolist() == times
    for before, share, after in zip(times, shares, found):
        assert 0 <= after < limit if share else after == before


def test_pictures_from_drafts_are_those_of_diffusers_and_latents_may_have_any_number_of_channels(tiny_base):
    from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel

    from jdiff_style.generate import from_drafts

    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base))
    side = pipeline.unet.config.sample_size
    words = {"prompt": ["a ring", "a hotel"], "num_inference_steps": 4, "guidance_scale": 2.0, "output_type": "np"}

    def draw(made, **start):
        made.set_progress_bar_config(disable=True)
        return made(**words, generator=[torch.Generator().manual_seed(n) for n in (1, 2)], **start).images

    drafts = torch.randn((2, 4, side, side), generator=torch.Generator().manual_seed(0))
    made, start = from_drafts(pipeline, drafts, 0.5)
    known = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    expected = draw(known, image=drafts, strength=0.5)
    assert (draw(made, **start) == expected).all()

    parts = pipeline.components
    parts["vae"] = AutoencoderKL.from_config({**parts["vae"].config, "latent_channels": 6})
    parts["unet"] = UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 6, "out_channels": 6})
    wide = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    drafts = torch.randn((2, 6, side, side), generator=torch.Generator().manual_seed(0))
    made, start = from_drafts(wide, drafts, 0.5)
    assert draw(made, **start).shape == expected.shape
    made, start = from_drafts(wide, drafts[:1], 0.5)
    with pytest.raises(ValueError, match="1 drafts for 2 pictures"):
        draw(made, **start)


@given(seed=st.integers(0, 99), by=st.floats(0, 0.4))
def test_how_far_colours_are_away_does_not_look_at_shapes(seed, by):
    rng = np.random.default_rng(seed)
    picture = rng.uniform(-1, 1, size=(2, 3, 8, 8)).astype(np.float32)
    order = rng.permutation(64)
    moved = picture.reshape(2, 3, 64)[..., order].reshape(picture.shape)
    assert colour_distance(picture, moved) == 0
    assert colour_distance(0.6 * picture, 0.6 * moved + by) == pytest.approx(by / 2, abs=1e-6)
    assert colour_distance(0.6 * moved + by, 0.6 * picture) == pytest.approx(by / 2, abs=1e-6)
    assert colour_distance(picture, -9 * np.ones_like(picture)) == pytest.approx((picture.mean() + 1) / 2, abs=1e-6)


def test_a_style_gets_as_much_noise_as_its_colours_are_away(tiny_base):
    """The mean over its pictures, at most as much as the recipe says, and never none at all."""
    vae = load_pipeline(tiny_base, None, WEAK).vae
    drafts = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = vae.decode(drafts / vae.config.scaling_factor).sample.clamp(-1, 1).numpy()

    class Data:
        records = [(Style(id), None) for id in ("same", "near", "near", "far")]

        def pixels(self, number, flipped):
            assert not flipped
            return (drawn[number], drawn[number] * 0.9, drawn[number] * 0.7, np.ones_like(drawn[number]))[number]

    found = strengths_of_styles(vae, drafts, Data(), 0.25)
    near = np.mean([np.abs(drawn[1]).mean() * 0.1, np.abs(drawn[2]).mean() * 0.3]) / 2
    assert found == {"same": 0.001, "near": pytest.approx(near, abs=6e-4), "far": 0.25} and 0.001 < near < 0.25


class Style:
    def __init__(self, id):
        self.id = id


def test_batches_have_one_strength_each(tiny_base):
    options = SamplingOptions(
        steps=4, scheduler="ddim", draft_strength=0.5, draft_strengths={"01": 0.75, "02": 0.01}
    )  # fmt: skip
    assert [int(4 * options.strength(style)) for style in ("00", "01", "02")] == [2, 3, 1]  # one step at least
    for steps in range(1, 60):
        assert int(steps * SamplingOptions(steps=steps, draft_strengths={"00": 1e-3}).strength("00")) == 1
    asked = [prompt(style, word) for style in ("00", "01", "03") for word in ("Ring", "Hotel", "Car")]
    batches = in_batches(asked, 2, lambda one: options.strength(one.style))
    assert [one for batch in batches for one in batch] == asked
    assert [len(batch) for batch in batches] == [2, 1, 2, 1, 2, 1]
    assert [len(batch) for batch in in_batches(asked, 4, lambda one: 0.5)] == [4, 4, 1]
    pipeline, drafter = load_pipeline(tiny_base, None, options), load_drafter(tiny_base, options)
    seen = []
    for batch in (batches[0], batches[2]):
        draw(pipeline, batch, options, lambda done, total: seen.append((done, total)), drafter)
    assert seen == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]
    with pytest.raises(ValueError, match="one strength"):
        draw(pipeline, [asked[0], asked[3]], options, drafter=drafter)


def test_a_run_keeps_its_styles_strengths_for_the_command(tiny_base, pack_folder, tmp_path, jdiff, capsys):
    """The run has them in a file of its own, `--run` draws with them and records them; `--draft-strength` is for all."""
    line = ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "runs", "--steps", 1,
            "--resolution", 32, "--rank-per-style", 2, "--grid-steps", 4, "--grid-words", 1, "--draft-template", TEMPLATE,
            "--draft-strength", 0.9, "--draft-strength-by-style"]  # fmt: skip
    code, _, err = jdiff(*line)
    assert code == 0, err
    (run,) = (tmp_path / "runs").glob("0*")
    strengths = json.loads((run / STRENGTHS_FILE).read_text())
    assert set(strengths) == {"00", "01"} and all(0 < strength < 0.9 for strength in strengths.values())
    words = ["--run", str(run), "--limit", "1", "--steps", "4"]
    assert parallel.main([*words, "--out", str(tmp_path / "own")]) == 0
    assert parallel.main([*words, "--out", str(tmp_path / "all"), "--draft-strength", "0.9"]) == 0
    own, other = (json.loads((tmp_path / name / "generation.json").read_text())["settings"] for name in ("own", "all"))
    assert own["draft_strengths"] == strengths and other["draft_strengths"] == {}
    files = sorted(file.relative_to(tmp_path / "own") for file in (tmp_path / "own").glob("0*/*.png"))
    assert len(files) == 2 and all((tmp_path / "own" / f).read_bytes() != (tmp_path / "all" / f).read_bytes() for f in files)
    for text in ("{", "[1]", '{"00": "much"}'):
        (run / STRENGTHS_FILE).write_text(text)
        capsys.readouterr()
        assert parallel.main([*words, "--out", str(tmp_path / "other")]) == 1
        assert f"{STRENGTHS_FILE} is damaged" in capsys.readouterr().err
    (run / STRENGTHS_FILE).write_text('{"00": 1.5}')
    assert parallel.main([*words, "--out", str(tmp_path / "other")]) == 1
    assert "--draft-strength: 1.5 is outside" in capsys.readouterr().err
