"""One pass over references and generated pictures: features, metrics, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.backbones import Backbones, Unavailable
from eval.cache import FeatureCache
from eval.decode import Decoders, default_workers
from eval.features import FeaturePass, Loaded, PairDistances
from eval.images import ENDINGS
from eval.matching import Matching
from eval.metrics import METRICS
from eval.metrics.base import Metric, Picture, Reference, Setting
from eval.report import Options, Work, make_report
from jdiff_style.errors import UserError


@dataclass
class Run:
    """A scored folder: the report, and the metrics that were computed, for comparisons."""

    report: dict[str, Any]
    metrics: dict[str, Metric]


def score(
    matching: Matching,
    names: Sequence[str],
    backbones: Backbones,
    options: Options | None = None,
    progress: Callable[[int], None] | None = None,
) -> Run:
    """Score what :func:`eval.matching.match_files` found.

    Args:
        matching: the pictures.
        names: metrics out of :data:`eval.metrics.METRICS`; the others are reported as not asked for.
        backbones: the networks.
        options: how.
        progress: called with the number of pictures done, references included.

    Raises:
        UserError: no reference of a style can be read (or one cannot, where strict), weights are damaged, or a decoding
            process was killed.
    """
    options = options or Options()
    work = Work(matching)
    words = options.candidates or tuple(
        dict.fromkeys(word for files in matching.styles for word in files.style.prompts.values())
    )
    setting = Setting(
        options.protocol,
        words,
        _embedder(matching, names, backbones),
        options.copy_threshold,
        options.minimum,
        backbones.minimums,
    )
    cache = FeatureCache(options.cache)
    work.refused = prepare(names, backbones, options.drift is not None, setting)
    work.metrics = {name: METRICS[name](setting) for name in names if name not in work.refused}
    needs = {feature for metric in work.metrics.values() if metric.shared for feature in metric.needs}
    vectors = {name for name in needs if name != "hist" and not name.startswith("lpips")}
    networks = backbones.extractors(vectors, options.protocol)
    count = matching.expected + sum(len(files.style.images) for files in matching.styles)
    workers = default_workers(count) if options.workers is None else options.workers
    try:
        with Decoders(workers) as decoders:
            loader = FeaturePass(networks, cache, decoders, options.protocol if "hist" in needs else None, options.batch)
            references = _references(work, loader, options.strict, progress)
            _generated(work, loader, references, needs, backbones, options, progress)
            if "drift" in work.metrics and options.drift:
                _drift(work, options, backbones, loader)
    except FloatingPointError as error:
        raise UserError(f"--backbones: {error}; the weights are damaged or do not belong to this network") from error
    return Run(make_report(work, names, backbones, options, words), work.metrics)


def _embedder(matching: Matching, names: Sequence[str], backbones: Backbones) -> Callable[[Sequence[str]], np.ndarray]:
    """:meth:`Backbones.embed_texts` that, when it is first needed, computes all words of the pack in one go."""
    words = list(dict.fromkeys(word for files in matching.styles for word in files.found))
    pending = [*words] if "clip_score" in names else []
    pending += [word.lower() for word in words] if {"clip_r", "clip_r_top1"} & set(names) else []

    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = backbones.embed_texts([*pending, *texts])[len(pending) :]
        pending.clear()
        return rows

    return embed


def prepare(
    names: Sequence[str], backbones: Backbones, drift: bool, setting: Setting | None = None
) -> dict[str, str]:
    """Metric -> why it cannot be computed, one clause, before any picture is read; the others are left out.

    Args:
        names: metrics.
        backbones: the networks, whose weights are looked up.
        drift: whether the two folders of drift were given.
        setting: CLIP-R's words are checked where it is given.
    """
    refused = {}
    for name in names:
        if name == "drift" and not drift:
            refused[name] = "needs --drift BASE TUNED, two folders of pictures drawn without trigger"
            continue
        try:
            for feature in METRICS[name].needs:
                backbones.require(feature)
        except Unavailable as error:
            refused[name] = str(error)
            continue
        if setting and (reason := METRICS[name](setting).unavailable()):
            refused[name] = reason
    return refused


def _references(
    work: Work, loader: FeaturePass, strict: bool, progress: Callable[[int], None] | None
) -> dict[str, list[Loaded]]:
    """Load all references and begin the metrics with them. Inputs are dropped; vectors stay until the metrics have them."""
    shared = [metric for metric in work.metrics.values() if metric.shared]
    wanted = {name for metric in shared if metric.reference_features for name in metric.needs}
    needed = [network for network in loader.extractors if wanted & set(network.gives)]
    only = FeaturePass(needed, loader.cache, loader.decoders, loader.histogram, loader.batch)
    items = [(files.style.id, image.path) for files in work.matching.styles for image in files.style.images]
    found: dict[str, list[Loaded]] = {files.style.id: [] for files in work.matching.styles}
    bad: dict[str, str] = {}
    for group in only.load(items):
        for item in group:
            if item.error is not None:
                if strict:
                    raise UserError(f"--pack: {item.path}: {item.error}; repair or remove that reference")
                work.left_out.append({"path": str(item.path), "reason": item.error})
                bad[item.tag] = f"{item.path.name}: {item.error}"
                continue
            work.notes += [{"path": str(item.path), "note": note} for note in item.notes]
            found[item.tag].append(item)
            work.references += 1
        if progress:
            progress(work.references + len(work.left_out))
    for style_id, readable in found.items():
        if not readable:
            raise UserError(f"--pack: style {style_id}: none of its references can be read ({bad[style_id]}); repair one")
    for metric in (metric for metric in work.metrics.values() if metric.shared):
        metric.begin(
            {style: [Reference(str(item.path), item.features) for item in items] for style, items in found.items()}
        )
    for style in found.values():
        for item in style:
            item.features = {}
    return found


def _generated(
    work: Work,
    loader: FeaturePass,
    references: dict[str, list[Loaded]],
    needs: set[str],
    backbones: Backbones,
    options: Options,
    progress: Callable[[int], None] | None,
) -> None:
    pairs = None
    if needs & {"lpips", "lpips_pairs"}:
        pairs = PairDistances(
            backbones.pair_network(), loader.cache, options.batch, "lpips" in needs, "lpips_pairs" in needs
        )
    metrics = {name: metric for name, metric in work.metrics.items() if metric.shared}
    words = {
        (files.style.id, path): word for files in work.matching.styles for word, path in files.found.items()
    }  # fmt: skip
    extra = {"lpips": pairs.network.prepare} if pairs else None
    done, style = work.references + len(work.left_out), None
    for group in loader.load(words, extra):
        if pairs and group[0].tag != style:
            style = group[0].tag
            pairs.begin(style, references[style])
        readable = [item for item in group if item.error is None]
        if pairs:
            pairs.add(readable)
        for item in group:
            key = (item.tag, words[item.tag, item.path])
            if item.error is not None:
                work.unreadable.append({"path": str(item.path), "reason": item.error})
                for metric in metrics.values():
                    metric.fail(key)
                work.pictures.append(_row(key, item, "unreadable"))
                continue
            work.notes += [{"path": str(item.path), "note": note} for note in item.notes]
            work.sizes[f"{item.size[0]}x{item.size[1]}"] += 1
            row = _row(key, item, "scored")
            picture = Picture(*key, item.features)
            row["scores"] = {
                name: value for name, metric in metrics.items() if (value := metric.update(picture)) is not None
            }
            work.pictures.append(row)
        done += len(group)
        if progress:
            progress(done)
    for files in work.matching.styles:
        for word in files.missing:
            for metric in metrics.values():
                metric.fail((files.style.id, word))
            work.pictures.append({"style": files.style.id, "word": word, "state": "missing", "scores": {}})


def _row(key: tuple[str, str], item: Loaded, state: str) -> dict[str, Any]:
    row = {"style": key[0], "word": key[1], "path": str(item.path), "state": state, "sha256": item.digest, "scores": {}}
    return row | ({"reason": item.error} if item.error else {"width": item.size[0], "height": item.size[1]})


def _drift(work: Work, options: Options, backbones: Backbones, used: FeaturePass) -> None:
    """Feed the pictures that both drift folders hold under the same name, through a network of the pass where it fits."""
    base, tuned = options.drift or (Path(), Path())
    for folder in (base, tuned):
        if not folder.is_dir():
            raise UserError(f"--drift: {folder} is not a folder; give two folders of pictures with the same names")

    def pictures(folder: Path) -> list[Path]:
        found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS and path.is_file())
        return [path.relative_to(folder) for path in found]

    names = pictures(base)
    work.unexpected += [str(tuned / name) for name in sorted(set(pictures(tuned)) - set(names))]
    lacking = [str(name) for name in names if not (tuned / name).is_file()]
    if lacking or not names:
        which = f"{tuned / lacking[0]} is missing" if lacking else f"{base} holds no picture"
        raise UserError(f"--drift: {which}; draw the same words with the same seeds into both folders")
    networks = [network for network in used.extractors if "dino" in network.gives] or backbones.extractors({"dino"})
    loader = FeaturePass(networks, used.cache, used.decoders, None, options.batch)

    def features(folder: Path) -> Iterator[Loaded]:
        for group in loader.load((None, folder / name) for name in names):
            for item in group:
                if item.error:
                    raise UserError(f"--drift: {item.path}: {item.error}; draw it again")
                yield item

    for name, before, after in zip(names, features(base), features(tuned), strict=True):
        both = {"dino": after.features["dino"], "dino_base": before.features["dino"]}
        place = "" if name.parent == Path() else name.parent.as_posix()
        work.metrics["drift"].update(Picture(place, name.name, both))
