"""The figures of the default packed LoRA: style, objects, score, likeness to the true pictures, time."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from benchmarks.quality_measures import Figure, mean_interval, ranks, share_within
from benchmarks.quality_networks import Networks, own_clip, read_all
from benchmarks.quality_parts import Figures, Settings, draw_words, reconstruct, true_pictures
from benchmarks.quality_pictures import Trained, digest, draw_all, train
from benchmarks.quality_style import Judge, teach
from eval import score
from jdiff_style.captions import object_words
from jdiff_style.drafts import recipe_sampling
from jdiff_style.errors import UserError
from jdiff_style.lora_files import read_strengths
from jdiff_style.packs import Pack, load_pack
from jdiff_style.prompts import Prompt, PromptOptions, build_prompts
from jdiff_style.recipe import Recipe, read_recipe

# True pictures of each style that the classifier learns from, none of them of a word that is drawn.
TEACHING = 150
DEFAULT_SECONDS, TINY_SECONDS = 300.0, 30.0
# With the LoRA; the base alone; and what the recipe's drafts bring without the LoRA, to tell the two apart.
WITH, ALONE, DRAFTED = "lora", "alone", "drafts"


@dataclass(frozen=True)
class Truth:
    """What is known of one style: all its true pictures, their features and objects, and which of them are held out."""

    pictures: list[np.ndarray]
    features: np.ndarray
    objects: list[str]
    held_out: np.ndarray


def measure_lora(settings: Settings, networks: Networks) -> Figures:
    """Train the default recipe for every seed, draw every word of the pack with it and with the base alone, and compare."""
    pack = load_pack(settings.pack or read_recipe(settings.recipe)["pack"])
    truths = read_truths(settings, networks, pack)
    judges = teach(networks, *lessons_and_exams(pack, truths))
    own_style = true_pictures(settings)
    numbers = own_style.where(style=settings.style)
    own_features, _ = networks.look([own_style.images[n] for n in numbers], f"true pictures, {settings.style}")
    own_objects = own_style.objects(numbers)
    found: list[dict[str, Any]] = []
    for seed in settings.seeds:
        trained = train_default(settings, pack, seed)
        prompts = chosen_prompts(pack, trained.recipe, settings.limit)
        row: dict[str, Any] = {"seed": seed, "seconds": trained.seconds}
        options = recipe_sampling(trained.recipe, read_strengths(trained.run))
        asked = {WITH: prompts, ALONE: [replace(prompt, draft="") for prompt in prompts]}
        if trained.recipe.draft_template:
            asked[DRAFTED] = prompts
        for kind, own in asked.items():
            lora = trained.lora if kind == WITH else None
            files = draw_all(settings.base, lora, own, options, settings.out / "pictures", kind, settings.device)
            drawn = dict(zip(files, read_all(files.values())))
            row[kind] = compare(networks, pack, truths, judges, drawn)
            row[kind]["total"] = total(settings, pack, files)
            if kind == ALONE:
                # What it draws without the LoRA may not look like the style at all; then it is to be found in its own.
                known = [one for one in drawn if object_words(one[1]) in own_objects]
                right = [own_objects.index(object_words(word)) for _, word in known]
                if known:
                    features, _ = networks.look([drawn[one] for one in known], "drawn by the base alone")
                    row["alone in own style"] = ranks(features, own_features, right)
        words = sorted({object_words(prompt.word) for prompt in prompts} & set(own_objects))
        if words:
            features, _ = networks.look(draw_words(settings, words, seed), f"drawn, {settings.style}")
            row["own style"] = ranks(features, own_features, [own_objects.index(word) for word in words])
        found.append(row)
    ceiling = compare(networks, pack, truths, judges, through_autoencoder(settings, pack, found[0][WITH]["asked"]))
    return figures(pack, found, judges, ceiling)


def train_default(settings: Settings, pack: Pack, seed: int) -> Trained:
    """The finished run of the default recipe with this seed."""
    changes = {"base": str(settings.base.resolve()), "pack": str(pack.path.resolve()), "seed": seed}
    return train(settings.recipe, changes, pack, settings.out / "runs")


def chosen_prompts(pack: Pack, recipe: Recipe, limit: int) -> list[Prompt]:
    """The pack's prompts, of each style at most `limit` (0: all), in the form of the training captions and with the recipe's
    drafts.
    """
    drafting = {"draft": recipe.draft_template or "", "drafts": recipe.draft_templates or {}}
    prompts = build_prompts(pack, PromptOptions(template=recipe.caption_template, **drafting))
    counts: dict[str, int] = {}
    chosen = []
    for prompt in prompts:
        counts[prompt.style] = counts.get(prompt.style, 0) + 1
        if not limit or counts[prompt.style] <= limit:
            chosen.append(prompt)
    return chosen


def read_truths(settings: Settings, networks: Networks, pack: Pack) -> dict[str, Truth]:
    """Style of the pack -> all its true pictures in the data, found by the set that `about.json` names."""
    try:
        about = json.loads((pack.path / "about.json").read_text(encoding="utf-8"))
        sets = {style.id: about[style.id]["style"] for style in pack.styles}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--pack: {pack.path / 'about.json'} does not say which style of the data each folder is ({error!r})"
        ) from None
    data = true_pictures(settings, other_styles=True)
    truths = {}
    for style, name in sets.items():
        numbers = data.where(set=name)
        if not len(numbers):
            raise UserError(f"--data: {settings.data} has no pictures of the set {name!r} that style {style} was made from")
        pictures = [data.images[n] for n in numbers]
        features, _ = networks.look(pictures, f"true pictures, {name}")
        held_out = np.array([data.rows[n]["split"] == "held_out" for n in numbers])
        truths[style] = Truth(pictures, features, data.objects(numbers), held_out)
    return truths


def lessons_and_exams(pack: Pack, truths: dict[str, Truth]) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """True pictures of each style that teach its look, no word of the pack among them, and those of held-out objects."""
    asked = {object_words(word) for style in pack.styles for word in style.prompts.values()}
    lessons, exams = [], []
    for truth in truths.values():
        new = np.flatnonzero([not out and name not in asked for name, out in zip(truth.objects, truth.held_out)])
        lessons.append([truth.pictures[n] for n in new[:: max(1, len(new) // TEACHING)][:TEACHING]])
        exams.append([truth.pictures[n] for n in np.flatnonzero(truth.held_out)])
    return lessons, exams


def through_autoencoder(
    settings: Settings, pack: Pack, asked: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], np.ndarray]:
    """The true pictures of what was asked for, as the base's autoencoder reconstructs them: what a perfect UNet would draw.
    """
    styles = {style.id: style for style in pack.styles}
    targets = {one: target for one in asked if (target := styles[one[0]].target(one[1]))}
    return dict(zip(targets, reconstruct(settings, read_all(targets.values()))))


def compare(
    networks: Networks,
    pack: Pack,
    truths: dict[str, Truth],
    judges: tuple[Judge, Judge],
    drawn: dict[tuple[str, str], np.ndarray],
) -> dict[str, Any]:
    """Per style: which of the pictures of (style, word) the judges give to it, the places of the right objects, distances to
    the truth; and what was asked for.
    """
    found: dict[str, Any] = {"asked": list(drawn), "style": {}, "strict": {}, "places": {}, "distance": {}}
    for number, (style, truth) in enumerate(truths.items()):
        words = [word for owner, word in drawn if owner == style]
        pictures = [drawn[style, word] for word in words]
        features, statistics = networks.look(pictures, f"drawn, style {style}")
        for name, judge in zip(("style", "strict"), judges):
            found[name][style] = judge.right(statistics, number)
        known = [n for n, word in enumerate(words) if object_words(word) in truth.objects]
        if not known:
            raise UserError(f"--data: none of the words of style {style} is among its true pictures there")
        right = [truth.objects.index(object_words(words[n])) for n in known]
        found["places"][style] = ranks(features[known], truth.features, right)
        targets = {s.id: s for s in pack.styles}[style]
        pairs = [(picture, target) for picture, word in zip(pictures, words) if (target := targets.target(word))]
        if not pairs:
            raise UserError(f"--pack: {pack.path / style / 'targets'} holds no true picture of its words")
        true = _same_size(read_all(target for _, target in pairs), [picture for picture, _ in pairs])
        found["distance"][style] = networks.distances([picture for picture, _ in pairs], true)
    return found


def _same_size(true: list[np.ndarray], drawn: list[np.ndarray]) -> list[np.ndarray]:
    for one, other in zip(true, drawn):
        if one.shape != other.shape:
            raise UserError(f"--pack: a true picture is {one.shape[1]} px wide, the drawn one {other.shape[1]}")
    return true


def total(settings: Settings, pack: Pack, files: dict[tuple[str, str], Path]) -> dict[str, Any]:
    """The challenge's total with lite backbones by `eval/score.py`, and its parts."""
    folder = next(iter(files.values())).parents[1]
    report = settings.out / f"score-{folder.name}-{digest(str(settings.clip.resolve()))}.json"
    own = [f"{role}={place}" for role, place in own_clip(settings.clip).items()]
    words = ["--generated", folder, "--pack", pack.path, "--backbones", "lite", *own,
             "--bootstrap", 0, "--cache", settings.out / "cache", "--json", report]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        code = score.main([str(word) for word in words])
    if code:
        raise UserError(f"scoring {folder} failed with exit code {code}; its message stands above")
    found = json.loads(report.read_text(encoding="utf-8"))
    parts = {name: entry["value"] for name, entry in found["metrics"].items() if entry["value"] is not None}
    return {"value": found["total"]["value"], "why": found["total"].get("not_computed", ""), "parts": parts}


def figures(
    pack: Pack, found: list[dict[str, Any]], judges: tuple[Judge, Judge], ceiling: dict[str, Any]
) -> Figures:
    """The figures over all seeds from what `compare` and `total` gave."""
    judge, strict = judges
    styles = [style.id for style in pack.styles]
    named = {style.id: ", ".join(style.style_tags) for style in pack.styles}
    kinds = [kind for kind in (WITH, ALONE, DRAFTED) if kind in found[0]]
    right = {kind: _over_seeds(found, kind, "style", np.mean) for kind in kinds}
    sharp = _over_seeds(found, WITH, "strict", np.mean)
    best = {name: float(np.mean(np.concatenate(list(ceiling[name].values())))) for name in ("style", "strict", "distance")}
    best["objects"] = share_within(np.concatenate(list(ceiling["places"].values())), 1)
    kept = {kind: _over_seeds(found, kind, "places", lambda places: share_within(places, 1)) for kind in kinds}
    far = {kind: _over_seeds(found, kind, "distance", np.mean) for kind in kinds}
    seeds = {"seeds": [row["seed"] for row in found]}
    per_style = {
        style: {
            "tags": named[style],
            "style named right": right[WITH]["styles"][style],
            "object found": kept[WITH]["styles"][style],
            "distance to the true picture": far[WITH]["styles"][style],
            "distance of the base alone": far[ALONE]["styles"][style],
            **({"distance of its drafts": far[DRAFTED]["styles"][style]} if DRAFTED in kinds else {}),
        }
        for style in styles
    }
    seconds = [row["seconds"] for row in found if row["seconds"] is not None]
    return {
        "classifier": Figure(
            "style classifier on true pictures of held-out objects", judge.accuracy,
            why="" if judge.accuracy is not None else "the data hold out no picture",
            details={"softened": judge.softened_accuracy, "strict": strict.accuracy,
                     "strict, softened": strict.softened_accuracy},
        ),
        "style": Figure(
            "LoRA: style named right", right[WITH]["mean"], 0.7, interval=right[WITH]["interval"],
            details=seeds | {"per_style": per_style},
        ),
        "style_strict": Figure(
            "the same by a classifier that takes softness for a style", sharp["mean"], interval=sharp["interval"],
            details=sharp["styles"],
        ),
        "ceiling": Figure(
            "true pictures through the autoencoder alone: style named right", best["style"],
            details=best | {"per_style": {style: float(np.mean(ceiling["style"][style])) for style in styles}},
        ),
        "style_alone": Figure(
            "base alone: style named right (twice chance at most)", right[ALONE]["mean"], 2 / len(styles), falls=True,
            interval=right[ALONE]["interval"],
            details={"its drafts": right[DRAFTED]["mean"]} if DRAFTED in kinds else {},
        ),
        **_objects(found, kept),
        "total": _total_gain(found, ALONE, "over the base alone", 1.5),
        "nearer": _nearer(far, ALONE, "than the base's", float(len(styles))),
        **_over_drafts(found, far),
        "seconds": Figure(
            "the default recipe, from the command to its end", max(seconds, default=None), DEFAULT_SECONDS, falls=True,
            unit="s", why="" if seconds else "every run was interrupted", details={"seconds": seconds},
        ),
    }  # fmt: skip


def _over_seeds(found: list[dict[str, Any]], kind: str, what: str, measure: Any) -> dict[str, Any]:
    """Mean and interval over seeds: of all pictures together, and of each style."""
    mean, interval = mean_interval([float(measure(np.concatenate(list(row[kind][what].values())))) for row in found])
    styles = {}
    for style in found[0][kind][what]:
        own, limits = mean_interval([float(measure(row[kind][what][style])) for row in found])
        styles[style] = {"mean": own, "interval": list(limits) if limits else None}
    return {"mean": mean, "interval": interval, "styles": styles}


def _objects(found: list[dict[str, Any]], kept: dict[str, Any]) -> Figures:
    """Retrieval with the LoRA among all true pictures of the picture's own style, over that of the base alone under the same
    prompts, among the same or among those of its own style, where it does better; over that of the recipe's drafts, which
    show the object more surely; and over that of the base in its own style and prompts, which no picture of a far style
    comes near to: a true one redrawn by a perfect model would still be looked for among other drawings of the object than
    the one it was made from.
    """

    def shares(kind: str, count: int = 1) -> list[float]:
        return [share_within(np.concatenate(list(row[kind]["places"].values())), count) for row in found]

    with_lora, five = shares(WITH), shares(WITH, 5)
    alone_own = [share_within(row["alone in own style"], 1) for row in found if "alone in own style" in row]
    alone = [max(pair) for pair in zip(shares(ALONE), alone_own or [0.0] * len(found))]
    base = [share_within(row["own style"], 1) for row in found if "own style" in row]
    details = {
        "top1": kept[WITH]["mean"],
        "top5": float(np.mean(five)),
        "top1 of the base alone, same prompts": kept[ALONE]["mean"],
        **({"the same, among those of the base's own style": float(np.mean(alone_own))} if alone_own else {}),
        **({"top1 of its drafts, same prompts": kept[DRAFTED]["mean"]} if DRAFTED in kept else {}),
        **({"top1 of the base in its own style": float(np.mean(base))} if base else {}),
    }
    text = "LoRA: objects still found, as a share of the base's alone under the same prompts"
    other = "the same as a share of the base's in its own style and words"
    drafted = {}
    if DRAFTED in kept:
        over = "the same as a share of the base's drafts under the same prompts"
        drafted = {"objects_drafts": _share(over, with_lora, shares(DRAFTED), None, {})}
    return {
        "objects": _share(text, with_lora, alone, 0.9, details),
        **drafted,
        "objects_own_style": _share(other, with_lora, base if len(base) == len(found) else [0.0], None, {}),
    }


def _share(text: str, ones: list[float], others: list[float], goal: float | None, details: dict[str, Any]) -> Figure:
    if not min(others):
        return Figure(text, None, goal, why="the base's own pictures show none of the words", details=details)
    value, interval = mean_interval([one / other for one, other in zip(ones, others)])
    return Figure(text, value, goal, interval=interval, details=details)


def _over_drafts(found: list[dict[str, Any]], far: dict[str, Any]) -> Figures:
    """What the LoRA adds to the recipe's drafts, which are the base's own; nothing where the recipe has none."""
    if DRAFTED not in far:
        return {}
    return {
        "total_drafts": _total_gain(found, DRAFTED, "over the base's drafts under the same prompts", None),
        "nearer_drafts": _nearer(far, DRAFTED, "than the base's drafts", None),
    }


def _nearer(far: dict[str, Any], other: str, than: str, goal: float | None) -> Figure:
    distances = {kind: far[kind]["styles"] for kind in (WITH, other)}
    not_nearer = [style for style, own in distances[WITH].items() if own["mean"] >= distances[other][style]["mean"]]
    value = float(len(distances[WITH]) - len(not_nearer))
    details = {"not nearer": not_nearer}
    return Figure(f"LoRA: styles whose pictures are nearer to the true ones {than}", value, goal, details=details)


def _total_gain(found: list[dict[str, Any]], other: str, over: str, goal: float | None) -> Figure:
    text = f"challenge total with lite backbones: with LoRA {over}"
    pairs = [(row[WITH]["total"], row[other]["total"]) for row in found]
    missing = next((side["why"] for pair in pairs for side in pair if side["value"] is None), None)
    if missing is not None:
        return Figure(text, None, goal, why=missing)
    if min(without["value"] for _, without in pairs) <= 0:
        return Figure(text, None, goal, why="the base's total is 0")
    value, interval = mean_interval([one["value"] / without["value"] for one, without in pairs])
    sides = {WITH: [one for one, _ in pairs], other: [without for _, without in pairs]}
    details = {kind: {"totals": [side["value"] for side in own], "parts": _mean_parts(own)} for kind, own in sides.items()}
    return Figure(text, value, goal, interval=interval, details=details)


def _mean_parts(totals: Sequence[dict[str, Any]]) -> dict[str, float]:
    rows = [row["parts"] for row in totals]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if all(name in row for row in rows)}


def measure_speed(settings: Settings, networks: Networks) -> Figures:
    """The tiny recipe in a process of its own, warm: a first run compiles what has to be compiled, a second is timed."""
    values = read_recipe(settings.tiny_recipe)
    pack = load_pack(values["pack"])
    for seed in (settings.seeds[0], settings.seeds[0] + 1):
        changes = {"base": str(settings.base.resolve()), "seed": seed}
        trained = train(settings.tiny_recipe, changes, pack, settings.out / "runs")
    text, why = "the tiny recipe, warm, from the command to its end", "the run was interrupted"
    value = trained.seconds
    return {"tiny_seconds": Figure(text, value, TINY_SECONDS, True, "s", why if value is None else "")}
