"""The model card of a model trained from scratch: `README.md` in its folder, as model hubs show it.

Everything in it comes from the run: what it was trained on, with which settings, where, what was measured. Licences of the
data travel with the weights, for some of them ask to be named.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Optional, Sequence

from PIL import Image, ImageDraw

from jdiff_style import runs
from jdiff_style.hashes import SUMS_FILE, write_sums
from jdiff_style.pretrain_appearance import COLOURS, LINES, SURFACES, TONES

CARD_FILE, SAMPLES_FILE, LOSS_FILE, LICENCES_FILE = "README.md", "samples.png", "loss.png", "LICENSES.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
MEASUREMENTS = 8  # rows of the table, evenly over the run
POINTS = 240  # of the loss curve, each a mean over its share of the steps

TITLES = {"vae": "A small AutoencoderKL", "clip": "A small CLIP", "base": "A small Stable Diffusion"}
LIBRARIES = {"vae": "diffusers", "clip": "transformers", "base": "diffusers"}
PIPELINE = "StableDiffusionPipeline"
CLASSES = {"vae": "AutoencoderKL", "clip": "CLIPTextModelWithProjection", "base": PIPELINE}
TAGS = {"vae": ["autoencoder"], "clip": ["clip"], "base": ["text-to-image", "stable-diffusion"]}
WHAT = {
    "vae": "An AutoencoderKL: pictures of {side} px to latents and back. The scaling factor in `config.json` gives the "
    "latents unit variance.",
    "clip": "A CLIPTextModelWithProjection with its own byte-pair tokenizer, and a linear layer that takes the features of "
    "a fixed image network into the same space (`image_projection.json` names it).",
    "base": "A text-to-image model in diffusers layout: a UNet2DConditionModel with cross-attention on the latents of a "
    "small AutoencoderKL, a CLIPTextModel with its own tokenizer, DDIM; it draws {side} px.",
}
SAMPLES_SAY = {
    "vae": "Above the pictures, below their reconstructions.",
    "base": "A row for each style; left words of the training split, right words that were held out.",
}
LIMITS = {
    "vae": [
        "It knows one kind of picture: one object, drawn, {side} px. Photographs, small text and fine texture come back "
        "blurred.",
        "No adversarial or perceptual loss: edges are right on average rather than crisp.",
    ],
    "clip": [
        "It knows the words and pictures of its data: object names, keywords and the words of its styles. Other words are "
        "spelt in pieces that it has hardly seen.",
        "Scores made with it are comparable with each other only, not with those of a CLIP trained on the web.",
    ],
    "base": [
        "It draws one object on a plain ground, as its data do: no scenes, no people doing things, no text.",
        "It knows the object names in `words.txt`, their keywords and the style words of its data. Other words come out as "
        "something like them or as nothing.",
        "{side} px; other sizes were not trained.",
        "No safety checker: it has seen nothing that would need one.",
    ],
}
LIKE = {"decoder": "base"}  # its result is a whole model again, with another decoder


def write_card(
    folder: Path,
    run: Path,
    card: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    data: Any,
    before: Optional[Path] = None,
) -> None:
    """Write README.md with its pictures and the licences of the data into the model's `folder`.

    `card` is the content of training.json, `rows` the lines of the log up to its last step, `data` a PretrainData. `before`
    is the model that this one was made from: what its card says of its training stands in this card, too.
    """
    stage, steps = LIKE.get(card["stage"], card["stage"]), card["steps"]
    say = {"side": data.side}
    licences = _licences(data.folder)
    if licences is not None:
        shutil.copyfile(licences, folder / LICENCES_FILE)
    curve = draw_loss([(row["step"], row["loss"]) for row in rows])
    curve.save(folder / LOSS_FILE)
    sheets = [file for file in sorted((run / "samples").glob("step-*.png")) if int(file.stem[5:]) <= steps]
    if sheets:
        shutil.copyfile(sheets[-1], folder / SAMPLES_FILE)
    parts = [
        _front_matter(stage),
        f"# {TITLES[stage]}\n\n{WHAT[stage].format(**say)} Weights are float16 and the average over the last part of the "
        f"training; `{SUMS_FILE}` holds their hashes, `training.json` every setting.",
        _use(stage, card["recipe"], data),
        _data(card, data, licences is not None),
        _training(card, rows),
        *([_before(before, folder)] if before else []),
        f"{BEGIN}\n{END}",
    ]
    if sheets:
        step = int(sheets[-1].stem[5:])
        parts.append(f"## Samples\nAfter step {step}. {SAMPLES_SAY[stage]}\n\n![samples]({SAMPLES_FILE})")
    parts.append("## Limits\n" + "\n".join(f"- {text.format(**say)}" for text in LIMITS[stage]))
    (folder / CARD_FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def put_figures(folder: Path, text: str) -> None:
    """Replace what the card of the model in `folder` says under "Figures", and write its SHA256SUMS anew.

    Raises ValueError if the folder has no card with a place for them.
    """
    file = folder / CARD_FILE
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    if BEGIN not in before or END not in before:
        raise ValueError(f"{file} has no place for figures between {BEGIN} and {END}")
    head, tail = before.split(BEGIN)[0], before.split(END)[1]
    runs.write_text(file, f"{head}{BEGIN}\n## Figures\n{text.strip()}\n{END}{tail}")
    write_sums(folder)


def draw_loss(points: Sequence[tuple[int, float]], size: tuple[int, int] = (640, 240)) -> Image.Image:
    """The loss over the steps as a line of at most `POINTS` means; the axes name the ends."""
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    left, top, right, bottom = 56, 10, size[0] - 10, size[1] - 24
    pen.line([(left, top), (left, bottom), (right, bottom)], fill="black")
    if not points:
        return sheet
    share = max(1, -(-len(points) // POINTS))
    groups = [points[first : first + share] for first in range(0, len(points), share)]
    means = [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]
    low, high = min(value for _, value in means), max(value for _, value in means)
    first, last = points[0][0], points[-1][0]

    def place(step: int, value: float) -> tuple[float, float]:
        along = (step - first) / max(last - first, 1)
        up = (value - low) / (high - low) if high > low else 0.5
        return left + along * (right - left), bottom - up * (bottom - top)

    pen.line([place(*point) for point in means] if len(means) > 1 else [place(*means[0])] * 2, fill="navy", width=2)
    pen.text((4, top), f"{high:.4g}", fill="black")
    pen.text((4, bottom - 12), f"{low:.4g}", fill="black")
    pen.text((left, bottom + 6), f"step {first}", fill="black")
    end = f"step {last}"
    pen.text((right - pen.textlength(end), bottom + 6), end, fill="black")
    return sheet


def _front_matter(stage: str) -> str:
    tags = [f"- {tag}" for tag in TAGS[stage]]
    lines = ["---", "license: apache-2.0", f"library_name: {LIBRARIES[stage]}", "tags:", *tags]
    return "\n".join([*lines, *(["pipeline_tag: text-to-image"] if CLASSES[stage] == PIPELINE else []), "---"])


def _use(stage: str, recipe: dict[str, Any], data: Any) -> str:
    name = CLASSES[stage]
    lines = [f"from {LIBRARIES[stage]} import {name}", f'model = {name}.from_pretrained("FOLDER")']
    if name == PIPELINE:
        item = next(item for item in data.items if item.train)
        prompt = f"a {item.style} emoji of {item.object}"
        lines[1] = lines[1].replace("model", "pipeline")
        sampling = f"num_inference_steps={recipe['sample_steps']}, guidance_scale={recipe['sample_guidance']}"
        lines.append(f'picture = pipeline("{prompt}", {sampling}).images[0]')
    return "## Use\n```python\n" + "\n".join(lines) + "\n```"


def _data(card: dict[str, Any], data: Any, licensed: bool) -> str:
    counts = {style: sum(data.items[number].style == style for number in data.train) for style in data.styles}
    styles = ", ".join(f"{style} ({count})" for style, count in counts.items())
    licences = (
        f"Whose pictures and words these are, and under which licences: [{LICENCES_FILE}]({LICENCES_FILE})."
        if licensed
        else "The data folder says nothing about licences."
    )
    return (
        f"## Data\n{card['training_pictures']} pictures of {data.side} px for training, {card['held_out_pictures']} of "
        f"objects that were held out. Training pictures by style: {styles}. SHA-256 of the data: "
        f"`{card['versions']['inputs'].get('data', 'unknown')}`. {licences}{_appearances(card['recipe'], data.styles[0])}"
        f"{_paintings(card['recipe'])}"
    )


def _paintings(recipe: dict[str, Any]) -> str:
    if not recipe.get("paintings"):
        return ""
    said = ", and the caption said that and named their main colors" if recipe["stage"] == "base" else ""
    return f" Of the pictures, {recipe['paintings']:.0%} was paintings of these by a style transfer network{said}."


def _appearances(recipe: dict[str, Any], style: str) -> str:
    if not recipe.get("appearances"):
        return ""
    drawn = "what the base drew to learn from" if recipe["stage"] == "decoder" else "the pictures"
    words = ", ".join([*LINES, *(tone for tone in TONES if tone != "two colors"), *SURFACES, "inverted"])
    return (
        f" Of {drawn}, {recipe['appearances']:.0%} was in a changed appearance, made from the object's drawing in style "
        f"{recipe.get('appearance_style') or style}, and the caption said how: {words}, two colors, or the color of the "
        f"background (among {', '.join(COLOURS)})."
    )


def _training(card: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    recipe = card["recipe"]
    shown = ("batch_size", "learning_rate", "warmup_steps", "cooldown_steps", "weight_decay", "ema_decay", "mixed_precision",
             "seed")  # fmt: skip
    # What was learnt from, where it was not the pictures as they are; the next training's card still says so.
    changed = [name for name in ("appearances", "appearance_style", "appearance_style_share", "paintings", "drafts")
               if recipe.get(name)]  # fmt: skip
    if "drafts" in changed and "draft_timesteps" in recipe:
        changed.append("draft_timesteps")
    settings = ", ".join(f"{name} {recipe[name]}" for name in (*shown, *changed))
    weights = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in card["parameters"].items())
    sessions = [
        [session["after_step"], session["device"], session["name"], session["threads"], session["torch"],
         (session["git"]["commit"] or "unknown")[:12] + (" and changes" if session["git"]["changed"] else ""),
         ", ".join(f"{name} {value}" for name, value in session.get("settings", {}).items())]
        for session in card["sessions"]
    ]  # fmt: skip
    text = (
        f"## Training\nStage `{card['stage']}` of `jdiff train`: {card['steps']} steps ({card['epochs']} epochs) in "
        f"{card['hours']} hours; {settings}. Trained weights in millions: {weights}.\n\n"
        + _table(["after step", "device", "processor", "threads", "torch", "commit", "settings"], sessions)
        + f"\n\n![loss]({LOSS_FILE})"
    )
    names = [name for name in card["last_measurement"] or {} if name not in ("step", "loss", "lr", "seconds")]
    complete = [row for row in rows if names and all(name in row for name in names)]
    if complete:
        chosen = [complete[(len(complete) - 1) * n // (MEASUREMENTS - 1)] for n in range(MEASUREMENTS)]
        chosen = [row for number, row in enumerate(chosen) if row not in chosen[:number]]
        lines = [[row["step"], *(f"{row[name]:.4g}" for name in ("loss", *names))] for row in chosen]
        text += "\n\n" + _table(["step", "loss", *names], lines)
    return text


def _before(before: Path, folder: Path) -> str:
    """What the card in `before` says under "Training", and of what was before that; the loss curves go along under names
    that count backwards.
    """
    own = (before / CARD_FILE).read_text(encoding="utf-8").split("## Training\n")[1].split(BEGIN)[0].strip()
    for number in range(own.count("](loss"), 0, -1):  # the oldest first: every name moves on by one
        old, new = _loss_file(number - 1), _loss_file(number)
        shutil.copyfile(before / old, folder / new)
        own = own.replace(f"]({old})", f"]({new})")
    return "## Training before that\n" + own


def _loss_file(number: int) -> str:
    """That of this training at 0, of the one before it at 1."""
    return LOSS_FILE if not number else f"loss-before{f'-{number}' if number > 1 else ''}.png"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"[|\n]", " ", str(cell)) for cell in line) + " |" for line in lines)


def _licences(data: Path) -> Optional[Path]:
    """The LICENSES.md of the data: in its folder, or one or two above it."""
    places = [data.resolve(), *data.resolve().parents[:2]]
    return next((place / LICENCES_FILE for place in places if (place / LICENCES_FILE).is_file()), None)
