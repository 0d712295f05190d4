"""Training a model from scratch: one loop for the stages `vae`, `clip`, `base` and `decoder`.

A stage (pretrain_vae.py, pretrain_clip.py, pretrain_base.py, pretrain_decoder.py) builds its modules and says what a step's
loss, a measurement, a sample sheet and the finished folder are. The loop here does the rest: AdamW with a trapezoidal
rate, averaged weights, the log, checkpoints, resuming. As in train.py the random draws of a step depend only on the seed and
the step, so an interrupted and resumed run has the losses of one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import safetensors.numpy
import torch

from jdiff_style import checkpoint, runs, schema
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.hashes import write_sums
from jdiff_style.model_card import write_card
from jdiff_style.muon import Muon
from jdiff_style.pretrain_base import BaseStage
from jdiff_style.pretrain_clip import ClipStage
from jdiff_style.pretrain_decoder import DecoderStage
from jdiff_style.pretrain_recipe import PretrainRecipe
from jdiff_style.pretrain_stage import RESULT, Stage
from jdiff_style.pretrain_vae import VaeStage
from jdiff_style.progress import Progress
from jdiff_style.train import stop_on_interrupt

log = logging.getLogger(__name__)

WEIGHTS_FILE, AVERAGE_FILE, SAMPLES, CARD_FILE, SESSIONS_FILE = (
    "weights.safetensors",
    "average.safetensors",
    "samples",
    "training.json",
    "sessions.jsonl",
)
# What decides the weights and may still change when a run goes on.
BY_SESSION = ("steps", "cooldown_steps", "latent_noise", "colour_weight")


def result_steps(run: Path, name: str = RESULT) -> int | None:
    """After how many steps the result in the run folder was written; None if there is none or its card is unreadable."""
    try:
        return int(json.loads((run / name / CARD_FILE).read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_session(run: Path, recipe: PretrainRecipe, device: torch.device, start: int) -> None:
    """Append to `sessions.jsonl` on what machine, and with which of the fields that may change on the way (`BY_SESSION`),
    the run begins or goes on after step `start`.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(0)
    else:
        name = platform.processor() or platform.machine()
        with contextlib.suppress(OSError):
            found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
            name = found[1].strip() if found else name
    now = runs.versions({})
    row = {
        "after_step": start,
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": now["packages"].get("torch") or now["packages"].get("jittor"),
        "git": now["git"],
        "settings": {name: getattr(recipe, name) for name in BY_SESSION if hasattr(recipe, name)},
    }
    kept = [line for line in _lines(run / SESSIONS_FILE) if line["after_step"] < start]
    runs.write_text(run / SESSIONS_FILE, "".join(json.dumps(line) + "\n" for line in [*kept, row]))


def _lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file, without half a line that a killed process left; empty if there is no file."""
    rows = []
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def make_stage(recipe: PretrainRecipe) -> Stage:
    """The stage that the recipe describes, with freshly drawn weights."""
    kinds: dict[str, Any] = {"vae": VaeStage, "clip": ClipStage, "base": BaseStage, "decoder": DecoderStage}
    return kinds[recipe.stage](recipe)


def make_optimizer(stage: Stage) -> torch.optim.AdamW:
    """The recipe's optimiser over the stage's trained parameters; a group's `share` is its part of the learning rate."""
    recipe, groups = stage.recipe, []
    muon = recipe.optimizer == "muon"
    for name, module in stage.parts.items():
        # Muon is for what lies between two layers: embeddings are looked up, and the ends of a UNet or VAE see few channels.
        ends = {id(p) for m in module.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
        ends |= {id(p) for key, p in module.named_parameters() if {"conv_in", "conv_out"} & set(key.split("."))}
        kinds: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for p in module.parameters():
            if p.requires_grad:
                matrix = p.dim() > 1  # no weight decay on biases, norms and other vectors
                kinds.setdefault((matrix, muon and matrix and id(p) not in ends), []).append(p)
        for (matrix, hidden), chosen in sorted(kinds.items(), reverse=True):
            group = {"params": chosen, "weight_decay": recipe.weight_decay if matrix else 0.0}
            groups.append({**group, "share": stage.rates.get(name, 1.0), **({"muon": hidden} if muon else {})})
    options: dict[str, Any] = {"lr": recipe.learning_rate, "betas": (0.9, recipe.beta2), "eps": 1e-8, "fused": True}
    if not muon:
        return torch.optim.AdamW(groups, **options)
    return Muon(groups, dtype=torch.bfloat16 if recipe.mixed_precision == "bf16" else torch.float32, **options)


class Pretrainer:
    """One run: a stage, its optimiser, its averaged weights and the loop over them."""

    def __init__(self, stage: Stage):
        self.stage, self.recipe = stage, stage.recipe
        self.optimizer = make_optimizer(stage)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.average = [p.detach().clone() for p in self.parameters] if self.recipe.ema_decay else []

    def rate(self, step: int) -> float:
        """The rate of step `step` (from 0): up from 0 over the warm-up, level, down to 0 over the cool-down."""
        recipe = self.recipe
        up = (step + 1) / recipe.warmup_steps if recipe.warmup_steps else 1.0
        down = (recipe.steps - step) / (recipe.cooldown_steps + 1)
        return recipe.learning_rate * min(1.0, up, down)

    def train(self, run: Path, start: int) -> None:
        """Run the steps from `start` to the recipe's end, saving in `run`; Interrupted after Ctrl-C."""
        recipe, began = self.recipe, time.monotonic()
        progress = Progress(f"training {recipe.stage}", recipe.steps, start)
        training_log = runs.TrainingLog(run, start)
        with contextlib.closing(training_log), contextlib.closing(progress), stop_on_interrupt() as stop:
            for step in range(start, recipe.steps):
                for module in self.stage.parts.values():
                    module.train()
                loss, extra = self.stage.loss(step)
                loss.backward()
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise UserError(
                        f"the loss became {value} at step {step + 1}; start a new run with a lower learning_rate "
                        f"(now {recipe.learning_rate:g}) or mixed_precision: no"
                    )
                rate = self._update(step)
                last = step + 1 == recipe.steps
                row: dict[str, Any] = {"step": step + 1, "loss": value, "lr": rate}
                row |= {name: float(scalar.detach()) for name, scalar in extra.items()}
                if last or (recipe.validate_every and (step + 1) % recipe.validate_every == 0):
                    row |= self._measure(run, step + 1)
                row["seconds"] = round(time.monotonic() - began, 3)
                training_log.add(**row)
                progress.update(step + 1, loss=f"{value:.4f}")
                due = recipe.checkpoint_every and (step + 1) % recipe.checkpoint_every == 0
                if due or stop.is_set() or last:
                    self.save(run, step + 1)
                if stop.is_set():
                    raise Interrupted(
                        f"stopped after step {step + 1} of {recipe.steps}, which is saved. {runs.how_to_resume(run)}"
                    )

    def _update(self, step: int) -> float:
        """Clip, step, average; returns the rate."""
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # A short memory at first, so that the starting weights are forgotten.
        decay = min(self.recipe.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for average, parameter in zip(self.average, self.parameters):
                average.mul_(decay).add_(parameter.detach(), alpha=1.0 - decay)
        return rate

    def _measure(self, run: Path, step: int) -> dict[str, float]:
        with self.averaged(), torch.no_grad():
            values = self.stage.validate()
            sheet = self.stage.sample()
        log.info("step %d: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if sheet is not None:
            (run / SAMPLES).mkdir(exist_ok=True)
            target = run / SAMPLES / f"step-{step:08d}.png"
            temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
            sheet.save(temporary, format="PNG")
            os.replace(temporary, target)
        return values

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules hold the averaged weights and are in evaluation mode."""
        for module in self.stage.parts.values():
            module.eval()
        kept = [p.detach().clone() for p in self.parameters] if self.average else []
        self._put(self.average)
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values):
                parameter.copy_(value)

    def save(self, run: Path, step: int) -> None:
        """Write the checkpoint after `step` steps."""
        size = 4 * sum(p.numel() for p in self.parameters) * (4 if self.average else 3)
        checkpoint.write_checkpoint(
            run, step, self._write_state, self.recipe.keep_checkpoints, needed_bytes=size + (1 << 20)
        )

    def _write_state(self, folder: Path) -> None:
        for name, tensors in ((WEIGHTS_FILE, self.parameters), (AVERAGE_FILE, self.average)):
            if tensors:
                arrays = {f"{i:05d}": np.asarray(t.detach().cpu().numpy(), order="C") for i, t in enumerate(tensors)}
                safetensors.numpy.save_file(arrays, str(folder / name))
        checkpoint.save_optimizer(folder, self.optimizer)

    def restore(self, folder: Path) -> None:
        """Take weights, averaged weights and the optimiser's state from a checkpoint, bit for bit."""
        self._put(self._read(folder / WEIGHTS_FILE))
        if self.average:
            self.average = self._read(folder / AVERAGE_FILE)
        checkpoint.load_optimizer(folder, self.optimizer)

    def _read(self, file: Path) -> list[torch.Tensor]:
        arrays = safetensors.numpy.load_file(str(file))
        shapes = [tuple(p.shape) for p in self.parameters]
        values = [arrays[name] for name in sorted(arrays)]
        if [value.shape for value in values] != shapes:
            raise UserError(f"{file}: its weights are not those of the recipe beside it; restore recipe.yaml")
        return [torch.from_numpy(value).to(self.stage.device) for value in values]

    def write_result(self, run: Path, folder: Path, step: int) -> None:
        """Export the averaged weights to the new folder `folder`, with model card, `training.json` and `SHA256SUMS`, in one
        step.
        """
        temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            with self.averaged(), torch.no_grad():
                self.stage.export(temporary)
            for weights in temporary.rglob("*.safetensors"):
                runs.open_to_all(weights)
            rows = [row for row in _lines(run / runs.LOG_FILE) if row["step"] <= step]
            card = self._card(run, rows, step)
            (temporary / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            write_card(temporary, run, card, rows, self.stage.data, self.stage.before)
            write_sums(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _card(self, run: Path, rows: list[dict[str, Any]], step: int) -> dict[str, Any]:
        """How the weights came about: what they were trained on, how long, and the last measurements in the log's `rows`."""
        measured = [row for row in rows if self.stage.measurement in row]
        clocks = [0.0, *(row["seconds"] for row in rows)]  # each session's clock starts from 0
        seconds = sum(now - before if now >= before else now for before, now in zip(clocks, clocks[1:]))
        versions = json.loads((run / runs.VERSIONS_FILE).read_text(encoding="utf-8"))
        data = self.stage.data
        return {
            "stage": self.recipe.stage,
            "steps": step,
            "epochs": round(step * self.recipe.batch_size / len(data.train), 2),
            "training_pictures": len(data.train),
            "held_out_pictures": len(data.held_out),
            "styles": data.styles,
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in self.stage.parts.items()},
            "hours": round(seconds / 3600, 3),
            "sessions": [line for line in _lines(run / SESSIONS_FILE) if line["after_step"] < step],
            "last_measurement": measured[-1] if measured else None,
            "recipe": {
                name: getattr(self.recipe, name)
                for name, field in schema.fields_of(type(self.recipe)).items()
                if not field.metadata["path"] and name != "out"  # places on this machine mean nothing elsewhere
            },
            "versions": {key: versions[key] for key in ("packages", "python", "git", "inputs")},
        }
