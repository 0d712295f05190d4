"""Training a packed LoRA on a Stable Diffusion.

Supported: SD 1.x and 2.x (epsilon and v prediction), LoRA and DoRA on UNet and text encoder, LoRA+ rates, min-SNR
weighting, gradient accumulation and checkpointing, half precision, one process or several that share each batch
(data_parallel.py), checkpoints with bit-equal resume. Not supported: SDXL, training of full weights, prior preservation.

The random draws of a step depend only on the seed and the step, never on what ran before. That is what makes an
interrupted and resumed run end with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import torch

from jdiff_style import checkpoint, lora, runs
from jdiff_style.base import Base, load_base, pixels_per_latent
from jdiff_style.captions import make_caption
from jdiff_style.data_parallel import Group
from jdiff_style.dataset import DROPOUT, NOISE, Batch, TrainingData, derive_seed
from jdiff_style.drafts import (
    FIRST_TIMESTEP,
    Drafter,
    describe_drafts,
    draft_prompt,
    draft_timesteps,
    noise_with_drafts,
    recipe_sampling,
    strengths_of_styles,
)
from jdiff_style.errors import Interrupted, UserError
from jdiff_style.lora_files import DECODER_FILE, LORA_FILE, decoder_file
from jdiff_style.losses import Loss, make_loss
from jdiff_style.packs import Pack
from jdiff_style.progress import Progress
from jdiff_style.recipe import Recipe
from jdiff_style.style_decoder import join, split
from jdiff_style.train_decoder import DecoderLoss

log = logging.getLogger(__name__)

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
STATE_FILE = "state.json"
ALONE = Group()


class Trainer:
    """One training run: the models, the data and the optimiser, and the loop over them."""

    def __init__(self, recipe: Recipe, pack: Pack, base: Path):
        self.recipe, self.pack = recipe, pack
        self.device = pick_device(recipe.device)
        self.dtype = DTYPES[recipe.mixed_precision]
        if self.dtype == torch.float16 and self.device.type == "cpu":
            raise UserError("mixed_precision: fp16 needs a CUDA device; use no or bf16 on the CPU")
        self.base: Base = load_base(base, self.dtype, self.device)
        self.data = TrainingData(pack, recipe)
        wanted = recipe.drafts or recipe.draft_strength_by_style
        self.drafts: torch.Tensor | None = self._draw_drafts() if wanted else None
        self.strengths: dict[str, float] = {}
        if self.drafts is not None and recipe.draft_strength_by_style:
            self.strengths = strengths_of_styles(self.base.vae, self.drafts, self.data, recipe.draft_strength)
        self.rank = recipe.rank_per_style * len(pack.styles)
        self.styles = [style.id for style in pack.styles]
        self.modules = self._attach()
        if "decoder" in self.modules:
            self.decoding = DecoderLoss(recipe, pack, self.base.vae, self.device)
        self.loss: Loss = make_loss(
            self.base.noise_scheduler.config.prediction_type,
            self.base.noise_scheduler.alphas_cumprod,
            recipe.min_snr_gamma,
        )
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=recipe.weight_decay,
        )
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        own = {id(p) for p in self.modules["decoder"].parameters()} if "decoder" in self.modules else set()
        # Clipped apart: the losses are two, and neither may shrink the other's step.
        self.clipped = [[p for p in self.parameters if (id(p) in own) == of_decoder] for of_decoder in (False, True)]
        self.scaler = torch.cuda.amp.GradScaler() if self.dtype == torch.float16 else None
        self.moments: dict[tuple[int, bool], torch.Tensor] = {}
        self._warn_of_size()
        self._warn_of_long_captions()

    def _draw_drafts(self) -> torch.Tensor:
        """Latents of what the base, still without a LoRA, draws of the object in every picture of the pack."""
        for line in describe_drafts(self.recipe, self.pack.styles):
            log.info("%s", line)
        drafter = Drafter(self.base.pipeline(), recipe_sampling(self.recipe, {}))
        return drafter.latents([draft_prompt(self.recipe, style, image.name) for style, image in self.data.records])

    def _attach(self) -> dict[str, torch.nn.Module]:
        """Give UNet, text encoder and decoder their LoRA; its starting values follow from the recipe's seed."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        modules = {"unet": self.base.unet}
        targets = {"unet": lora.unet_targets(recipe.lora_targets), "text_encoder": lora.TEXT_TARGETS}
        if recipe.train_text_encoder:
            modules["text_encoder"] = self.base.text_encoder
        if recipe.decoder_rank_per_style:
            modules["decoder"], targets["decoder"] = self.base.vae.decoder, lora.DECODER_TARGETS
        for name, module in modules.items():
            rank = self.rank if name != "decoder" else recipe.decoder_rank_per_style * len(self.pack.styles)
            # A DoRA's magnitudes would be those of all styles together.
            dora = recipe.dora and name != "decoder"
            reached = lora.attach(module, targets[name], rank, dropout=recipe.lora_dropout, dora=dora)
            layers = ", ".join(f"{n} {target}" for target, n in sorted(reached.items()))
            log.info("%s: LoRA of rank %d on %s", name, rank, layers)
            module.train()
        if recipe.init_lora:
            parts = self._read_lora(Path(recipe.init_lora))
            # A decoder's LoRA may begin where there was none.
            known = {name: module for name, module in modules.items() if name != "decoder" or parts["decoder"]}
            lora.copy_into(known, parts, recipe.init_lora)
        if recipe.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
            if recipe.train_text_encoder:
                # The re-entrant kind would lose the gradients: the first layer's input needs none.
                self.base.text_encoder.gradient_checkpointing_enable({"use_reentrant": False})
            if recipe.decoder_rank_per_style:
                self.base.vae.enable_gradient_checkpointing()
        return modules

    def _read_lora(self, path: Path) -> dict[str, dict[str, torch.Tensor]]:
        parts = lora.read_lora(path)
        if parts["decoder"]:
            parts["decoder"] = join(parts["decoder"], self.styles, str(path))
        return parts

    def _parameter_groups(self) -> list[dict[str, Any]]:
        recipe = self.recipe
        others = {name: module for name, module in self.modules.items() if name != "decoder"}
        groups = lora.parameter_groups(others, recipe.learning_rate, recipe.lora_plus_gamma)
        if "decoder" in self.modules:
            rate = recipe.learning_rate * recipe.decoder_rate
            groups += lora.parameter_groups({"decoder": self.modules["decoder"]}, rate, recipe.lora_plus_gamma)
        return groups

    def _warn_of_size(self) -> None:
        latents, wanted = self.base.unet.config.sample_size, self.recipe.resolution
        if not isinstance(latents, int):  # diffusers allows height and width apart, and none
            return
        side = latents * pixels_per_latent(self.base.vae)
        if not side / 2 <= wanted <= side * 2:
            log.warning(
                "resolution: %d px is far from the %d px that this base draws, and it will hardly know its objects; "
                "was the recipe made for another base? --resolution %d changes it",
                wanted,
                side,
                side,
            )

    def _warn_of_long_captions(self) -> None:
        tokenizer = self.base.tokenizer
        captions = [
            make_caption(style, image, self.recipe.flip, None, self.recipe.caption_template)
            for style, image in self.data.records
        ]
        limit = tokenizer.model_max_length
        long = [c for c, ids in zip(captions, tokenizer(captions).input_ids) if len(ids) > limit]
        if long:
            log.warning(
                "%d of %d captions are longer than %d tokens; what is beyond is cut, for example in: %s",
                len(long),
                len(captions),
                limit,
                long[0],
            )

    def train(self, run: Path, start: int, group: Group = ALONE) -> None:
        """Run the optimiser steps from `start` to the recipe's end; Interrupted after Ctrl-C.

        The leading process of `group` saves in `run`; the others write nothing.
        """
        recipe, began = self.recipe, time.monotonic()
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(stop_on_interrupt())
            if group.leads:
                training_log = stack.enter_context(contextlib.closing(runs.TrainingLog(run, start)))
                progress = stack.enter_context(contextlib.closing(Progress("training", recipe.steps, start)))
            for step in range(start, recipe.steps):
                passes = [self.accumulate(step, micro, group) for micro in range(recipe.grad_accumulation)]
                total, decoding, stopping = group.add(*map(sum, zip(*passes)), float(stop.is_set()))
                if not math.isfinite(total + decoding):
                    raise UserError(
                        f"the loss became {total + decoding} at step {step + 1}; start a new run with a lower learning_rate "
                        f"(now {recipe.learning_rate:g}) or mixed_precision: no"
                    )
                group.add_gradients(self.parameters)
                rate = self.step_optimizer(step)
                if group.leads:
                    losses = {"loss": total, **({"decoder_loss": decoding} if "decoder" in self.modules else {})}
                    training_log.add(step=step + 1, **losses, lr=rate, seconds=round(time.monotonic() - began, 3))
                    progress.update(step + 1, **{name: f"{value:.4f}" for name, value in losses.items()})
                    due = recipe.checkpoint_every and (step + 1) % recipe.checkpoint_every == 0
                    if due or stopping or step + 1 == recipe.steps:
                        self.save(run, step + 1)
                if stopping:
                    raise Interrupted(
                        f"stopped after step {step + 1} of {recipe.steps}, which is saved. {runs.how_to_resume(run)}"
                    )

    def accumulate(self, step: int, micro: int, group: Group) -> tuple[float, float]:
        """One forward and backward pass over the group's share of a batch; its part of the step's loss, and of the
        decoder's.
        """
        recipe = self.recipe
        share = group.share(recipe.batch_size)
        batch = self.data.batch(step, micro, share)
        parts = recipe.grad_accumulation * (recipe.batch_size / len(batch.keys))
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, NOISE, step, micro))
        # Every process draws masks of its own; the first one's are those of a process alone.
        torch.manual_seed(derive_seed(recipe.seed, DROPOUT, step, micro, *([group.rank] if group.rank else [])))
        with self.autocast():
            latents = self.encode_images(batch, generator, share)
            noise = self.draw_noise(latents.shape, generator, share)
            timesteps = self.draw_timesteps(recipe.batch_size, generator)[share]
            if self.drafts is not None and recipe.drafts:
                # The autoencoder sees both directions alike, so a draft is flipped as it is.
                drafts = torch.stack([self.drafts[n].flip(-1) if flipped else self.drafts[n] for n, flipped in batch.keys])
                shares = self._draft_shares(generator, share)
                timesteps = draft_timesteps(timesteps, shares, recipe.draft_timesteps)
                alphas = self.base.noise_scheduler.alphas_cumprod
                first = min(FIRST_TIMESTEP, round(1000 * recipe.draft_strength))
                noise = noise_with_drafts(noise, latents, drafts.to(self.device), shares, timesteps, alphas, first)
            noisy = self.base.noise_scheduler.add_noise(latents, noise, timesteps)
            text = self.encode_text(batch.captions)
            prediction = self.base.unet(noisy.to(self.dtype), timesteps, text).sample
            loss = self.loss(prediction, latents, noise, timesteps) / parts
            total, decoding = loss, 0.0
            if "decoder" in self.modules:
                with self.full_precision():
                    of_decoder = self.decoding(batch, latents, generator, share)
                total, decoding = loss + of_decoder, of_decoder.detach()
        (self.scaler.scale(total) if self.scaler else total).backward()
        return float(loss.detach()), float(decoding)

    def _draft_shares(self, generator: torch.Generator, share: slice) -> torch.Tensor:
        """How much of a draft is in each picture's noise, float32 (batch,) in [0, 1]; above 0 for the recipe's share."""
        whether, how_much = torch.rand((2, self.recipe.batch_size), generator=generator)[:, share].to(self.device)
        # More of them near the draft itself than near the picture: denoising starts there.
        return (whether < self.recipe.drafts).to(torch.float32) * how_much.sqrt()

    def draw_noise(self, shape: Sequence[int], generator: torch.Generator, share: slice) -> torch.Tensor:
        """A share of the standard normal numbers of a whole batch, float32; `shape` is that of the share."""
        return torch.randn((self.recipe.batch_size, *shape[1:]), generator=generator)[share].to(self.device)

    def step_optimizer(self, step: int) -> float:
        """Clip the gradients, set the rates of this step, update, forget the gradients; returns the rate of lora_A."""
        recipe = self.recipe
        warm = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * warm
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if recipe.max_grad_norm:
            for parameters in filter(None, self.clipped):
                torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return recipe.learning_rate * warm

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """int64 of shape (count,), uniform over the noise scheduler's training timesteps."""
        length = self.base.noise_scheduler.config.num_train_timesteps
        return torch.randint(0, length, (count,), generator=generator).to(self.device)

    def encode_images(self, batch: Batch, generator: torch.Generator, share: slice) -> torch.Tensor:
        """Latents, float32 batch × 4 × side/8 × side/8, drawn from the VAE's distribution and scaled for the UNet."""
        with torch.no_grad(), self.full_precision():
            if self.recipe.cache_latents:
                for pixels, key in zip(batch.pixels, batch.keys):
                    if key not in self.moments:
                        self.moments[key] = self._moments(pixels[None])
                moments = torch.cat([self.moments[key] for key in batch.keys])
            else:
                moments = self._moments(batch.pixels)
            # Drawn here and not by the VAE, so that the same generator gives the same latents on every device.
            mean, log_variance = moments.chunk(2, dim=1)
            draw = self.draw_noise(mean.shape, generator, share)
            latents = mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * draw
            return latents * self.base.vae.config.scaling_factor

    def _moments(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.base.vae.encode(pixels.to(self.device)).latent_dist.parameters

    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """The text encoder's last hidden state, batch × 77 × width, of captions cut at the tokenizer's length."""
        tokenizer = self.base.tokenizer
        tokens = tokenizer(
            captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        with contextlib.nullcontext() if self.recipe.train_text_encoder else torch.no_grad():
            return self.base.text_encoder(tokens.to(self.device))[0]

    def autocast(self) -> Any:
        """Half-precision forward pass where the recipe asks for it, nothing otherwise."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def full_precision(self) -> Any:
        """Inside `autocast`: compute in float32 all the same."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, enabled=False)

    def save(self, run: Path, step: int) -> None:
        """Write the checkpoint after `step` optimiser steps."""
        size = sum(p.numel() for p in self.parameters) * 4
        checkpoint.write_checkpoint(
            run,
            step,
            lambda folder: self._write_state(folder, step),
            self.recipe.keep_checkpoints,
            needed_bytes=3 * size + (1 << 20),
        )

    def _write_state(self, folder: Path, step: int) -> None:
        self._save_lora(folder)
        checkpoint.save_optimizer(folder, self.optimizer)
        state = {"step": step, "scaler": self.scaler.state_dict() if self.scaler else None}
        (folder / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Take LoRA weights and optimiser state from a checkpoint, bit for bit."""
        lora.copy_into(self.modules, self._read_lora(folder), str(folder))
        checkpoint.load_optimizer(folder, self.optimizer)
        scaler = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["scaler"]
        if self.scaler and scaler:
            self.scaler.load_state_dict(scaler)

    def _save_lora(self, folder: Path) -> Path:
        modules = dict(self.modules)
        if (decoder := modules.pop("decoder", None)) is None:
            return lora.save_lora(folder, **modules)
        return lora.save_lora(folder, **modules, decoder=split(lora.lora_parameters(decoder), self.styles))

    def write_result(self, run: Path) -> None:
        """Put the trained LoRA into the run folder, in one step."""
        temporary = run / f".result-{os.getpid()}"
        try:
            file = self._save_lora(temporary)
            # The decoder's first: a run with the other one is finished.
            if (beside := decoder_file(file)) is not None:
                os.replace(beside, run / DECODER_FILE)
            os.replace(file, run / LORA_FILE)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device. UserError for `cuda` without one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("device: cuda was asked for, but no CUDA device is usable; `jdiff doctor` says why")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that the running step can finish; a second Ctrl-C interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        log.warning("stopping: finishing this step and saving; Ctrl-C again stops at once")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
