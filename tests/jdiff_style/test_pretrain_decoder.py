"""The decoder's stage: what stays, what it learns from, what its model says of the base, what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from jdiff_style.checkpoint import sha256
from jdiff_style.pretrain_appearance import change
from jdiff_style.pretrain_data import PretrainData, to_pixels
from jdiff_style.pretrain_decoder import DecoderStage
from jdiff_style.pretrain_recipe import DecoderRecipe

WEIGHTS = "diffusion_pytorch_model.safetensors"


def rows(run):
    return [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]


def test_only_the_decoder_changes(trained):
    base, made = trained["base"] / "result", trained["decoder"] / "result"
    for file in ("unet/" + WEIGHTS, "text_encoder/model.safetensors"):
        before, after = load_file(base / file), load_file(made / file)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before), file
    before, after = load_file(base / "vae" / WEIGHTS), load_file(made / "vae" / WEIGHTS)
    changed = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}
    for file in ("words.txt", "vae/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"):
        assert (base / file).read_bytes() == (made / file).read_bytes()


def test_it_learns_to_undo_what_the_base_gets_wrong(jdiff, trained, tmp_path):
    """The drawn latents are replaced by those of the true pictures with the other sign: an error that is always the same."""
    from diffusers import AutoencoderKL

    run = shutil.copytree(trained["decoder"], tmp_path / "copy")
    vae = AutoencoderKL.from_pretrained(str(trained["base"] / "result" / "vae"), local_files_only=True)
    data = PretrainData(trained["vae"].parents[1] / "data", 0)
    data.keep(trained["base"] / "result" / "words.txt")
    with torch.no_grad():
        latents = -vae.encode(torch.from_numpy(data.pixels(data.train))).latent_dist.mean.cpu().numpy()
    np.save(run / "drawn.npy", np.stack([latents] * 3))
    (run / "drawn.sha256").write_text(sha256(run / "drawn.npy"))
    code, _, err = jdiff("train", "--resume", run, "--steps", 80, "--validate-every", 10)
    assert code == 0 and "damaged" not in err, err
    assert rows(run)[79]["psnr_drawn"] > rows(run)[9]["psnr_drawn"] + 1.0


def test_the_share_of_drawn_latents_is_that_of_the_recipe(trained, monkeypatch):
    data = trained["vae"].parents[1] / "data"
    for drawn, count in ((0.0, 0), (0.5, 2), (1.0, 4)):
        recipe = DecoderRecipe(data=str(data), base=str(trained["base"]), batch_size=4, drawn=drawn, draw_steps=2)
        stage = DecoderStage(recipe)
        stage.drawn = np.full((3, 8, 4, 8, 8), 7.0, dtype=np.float32)
        seen = []
        decode = stage.vae.decode
        monkeypatch.setattr(stage.vae, "decode", lambda z, decode=decode, seen=seen: (seen.append(z), decode(z))[1])
        with torch.no_grad():
            stage.loss(0)
        (latents,) = seen
        assert [bool((row == 7.0).all()) for row in latents] == [True] * count + [False] * (4 - count)


def test_what_is_drawn_with_an_appearance_is_compared_with_a_picture_of_it(trained, monkeypatch):
    """Of the object in the one style that appearances change. Latents drawn without one meet the true picture itself;
    so do all those for measuring.
    """
    from jdiff_style import pretrain_decoder

    data = trained["vae"].parents[1] / "data"
    recipe = DecoderRecipe(
        data=str(data), base=str(trained["base"]), batch_size=8, drawn=1.0, draw_steps=2, draws=1, appearances=0.5,
        appearance_style="ring",
    )  # fmt: skip
    stage = DecoderStage(recipe)
    stage.drawn = stage.draw_all()
    numbers = [int(number) for number in stage.data.train]
    asked = {number: stage.caption(0, number) for number in numbers}
    plain = {number: stage.caption(1, number) for number in numbers}
    assert all(caption.startswith(("a flat emoji of thing", "a ring emoji of thing")) for caption in plain.values())
    assert 0 < sum(asked[number] == plain[number] for number in numbers) < len(numbers)
    rings = {item.object: n for n, item in enumerate(stage.data.items) if item.style == "ring"}
    in_rings = {number: stage.data.images[rings[stage.data.items[number].object]] for number in numbers}
    seen = []
    monkeypatch.setattr(pretrain_decoder, "pixel_loss", lambda decoded, pictures, *_: (seen.append(pictures), {})[0])
    stage.loss(0)
    (pictures,) = seen
    order, _ = stage.data.numbers(0, 8)
    for picture, number in zip(pictures, map(int, order)):
        appearance, _ = stage.appearance(0, number)
        assert (appearance is None) == (asked[number] == plain[number])
        true = stage.data.images[number] if appearance is None else change(in_rings[number], appearance)
        assert np.array_equal(picture.numpy(), to_pixels(true[None])[0])


def test_damaged_drawn_latents_are_drawn_again(jdiff, trained, tmp_path):
    copy = shutil.copytree(trained["decoder"], tmp_path / "copy")
    good = (copy / "drawn.npy").read_bytes()
    (copy / "drawn.npy").write_bytes(good[:-1] + bytes([good[-1] ^ 255]))
    code, _, err = jdiff("train", "--resume", copy, "--steps", 7)
    assert code == 0 and "drawn.npy is damaged" in err, err
    assert (copy / "drawn.npy").read_bytes() == good


def test_the_card_also_says_how_the_base_was_trained(trained):
    folder = trained["decoder"] / "result"
    text = (folder / "README.md").read_text()
    first, second = text.split("## Training before that\n")
    assert "Stage `decoder` of `jdiff train`" in first and "Stage `base` of `jdiff train`" in second
    assert "](loss.png)" in first and "](loss-before.png)" in second and (folder / "loss-before.png").is_file()
    assert text.count("<!-- figures -->") == 1 and "held_out_loss" in second
    assert (folder / "loss-before.png").read_bytes() == (trained["base"] / "result" / "loss.png").read_bytes()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "base: none given"),
        (["--base", "vae"], "base: cannot load"),
        (["--base", "data"], "has no SHA256SUMS"),
    ],
)
def test_a_base_that_is_none_is_refused(jdiff, trained, tmp_path, words, message):
    data = trained["vae"].parents[1] / "data"
    places = {"vae": trained["vae"], "data": data}
    words = [places.get(word, word) for word in words]
    code, _, err = jdiff("train", "--stage", "decoder", "--data", data, "--out", tmp_path / "out", *words)
    assert code == 1 and message in err and not (tmp_path / "out").exists(), err
