"""The `base` stage: a UNet that draws latents from captions, on a finished VAE and a finished CLIP's text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from jdiff_style import runs
from jdiff_style.base import pixels_per_latent
from jdiff_style.checkpoint import sha256
from jdiff_style.dataset import derive_seed
from jdiff_style.drafts import draft_timesteps, noise_with_drafts
from jdiff_style.errors import UserError
from jdiff_style.finished_models import load_part, model_folder
from jdiff_style.hashes import SUMS_FILE
from jdiff_style.kept_array import kept_array
from jdiff_style.losses import make_loss
from jdiff_style.pretrain_appearance import Appearance, change, draw_appearance
from jdiff_style.pretrain_appearance import make_caption as changed_caption
from jdiff_style.pretrain_data import make_caption, plain_caption, to_pixels
from jdiff_style.pretrain_paintings import Paintings
from jdiff_style.pretrain_recipe import TIMESTEPS, BaseRecipe
from jdiff_style.pretrain_stage import Stage, half_copy
from jdiff_style.progress import Progress
from jdiff_style.sample_sheet import sample_sheet
from jdiff_style.widen import take_over

BATCH, VALIDATION_STREAM, APPEARANCE_STREAM = 32, 201, 203
ENCODER = ("encoder.", "quant_conv.")
LATENTS_FILE, CHANGED_FILE, PAINTED_FILE, WORDS_FILE = "latents.npy", "changed.npy", "painted.npy", "words.txt"


class BaseStage(Stage):
    """The plain diffusion loss on cached latents (Rombach et al. 2022, eq. 2, here with v-prediction)."""

    recipe: BaseRecipe
    measurement = "train_loss"

    def __init__(self, recipe: BaseRecipe):
        super().__init__(recipe)
        if recipe.words is not None:
            self.data.keep(Path(recipe.words))
        self.vae = load_part(recipe.vae, "vae", AutoencoderKL).to(self.device).requires_grad_(False).eval()
        self.tokenizer = load_part(recipe.clip, "clip", CLIPTokenizer)
        self.text_encoder = load_part(recipe.clip, "clip", CLIPTextModel).to(self.device)
        self.text_encoder.requires_grad_(recipe.train_text_encoder).eval()
        factor = pixels_per_latent(self.vae)
        channels = self.vae.config.latent_channels
        self.scheduler = DDIMScheduler(
            num_train_timesteps=TIMESTEPS,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=True,  # the last step ends at the clean picture, not at timestep 0's little noise
            steps_offset=1,
            prediction_type=recipe.prediction_type,
            # Sampling starts from pure noise, and so does training (Lin et al. 2024, sections 3.1 and 3.3); an epsilon
            # model learns nothing from pure noise, so its schedule stays.
            timestep_spacing="trailing",
            rescale_betas_zero_snr=recipe.prediction_type == "v_prediction",
        )
        torch.manual_seed(recipe.seed)
        down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in recipe.attention)
        self.unet = UNet2DConditionModel(
            sample_size=self.data.side // factor,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=recipe.channels,
            layers_per_block=recipe.layers,
            down_block_types=down,
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
            cross_attention_dim=self.text_encoder.config.hidden_size,
            attention_head_dim=recipe.heads,  # diffusers takes this as the number of heads, as in SD 1.5
            norm_num_groups=recipe.norm_groups,
            # As DeepFloyd IF has it: the caption, pooled by attention, joins the timestep's embedding, and that scales and
            # shifts the normalised features of each block.
            addition_embed_type="text" if recipe.pooled_text else None,
            addition_embed_type_num_heads=recipe.heads,
            resnet_time_scale_shift="scale_shift" if recipe.pooled_text else "default",
        ).to(self.device)
        self.predict = compiled(self.unet) if recipe.compile else self.unet
        self.parts = {"unet": self.unet}
        if recipe.train_text_encoder:
            self.parts["text_encoder"] = self.text_encoder
            self.rates = {"text_encoder": recipe.text_rate}
            # The last layer norm is used; what follows it in CLIPModel (the projection) is not part of CLIPTextModel.
        self.criterion = make_loss(recipe.prediction_type, self.scheduler.alphas_cumprod, recipe.min_snr_gamma)
        self.latents = self.changed = self.painted = np.empty(0, dtype=np.float32)
        self.place = {int(number): place for place, number in enumerate(self.data.train)}
        shows = recipe.appearances or recipe.drafts or recipe.appearance_style_share
        self.shown = self.data.counterparts(recipe.appearance_style) if shows else {}
        self.paintings = Paintings(self.data) if recipe.paintings else None
        if self.paintings is not None:
            self.paintings.check(self.data)
        self.before = model_folder(recipe.base, "base") if recipe.base else None
        if recipe.base:
            self._go_on_from(load_part(recipe.base, "base", StableDiffusionPipeline))

    def _go_on_from(self, pipeline: Any) -> None:
        """Take over the weights of a finished base; UserError if its sizes or its latents are others."""
        take_over(self.unet, pipeline.unet.state_dict(), "base: its unet")
        take_over(self.text_encoder, pipeline.text_encoder.state_dict(), "base: its text_encoder")
        theirs, ours = pipeline.vae, self.vae
        if theirs.config.latent_channels < ours.config.latent_channels:
            return  # one that went on from theirs; how near its first latents are to theirs shows in the first losses
        encoders = [{name: value.cpu() for name, value in vae.state_dict().items() if name.startswith(ENCODER)}
                    for vae in (theirs, ours)]  # fmt: skip
        if set(encoders[0]) != set(encoders[1]) or not all(torch.equal(encoders[0][n], encoders[1][n]) for n in encoders[0]):
            raise UserError("base: it was trained on the latents of another autoencoder; name that one with --vae")

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the data, of the words and of both finished models."""
        files = {name: model_folder(getattr(self.recipe, name), name) / SUMS_FILE for name in ("vae", "clip")}
        if self.recipe.words is not None:
            files["words"] = Path(self.recipe.words)
        if self.before is not None:
            files["base"] = self.before / SUMS_FILE
        own = {name: sha256(file) for name, file in files.items()}
        if self.paintings is not None:
            own["paintings"] = self.paintings.fingerprint()
        return {**super().inputs(), **own}

    def prepare(self, run: Path) -> None:
        """Encode every picture once, and changed copies and paintings if there are to be any; all are kept in the run
        folder for resuming. float32 N × c × h × w, copies × N of training × c × h × w, and paintings × c × h × w.
        """
        self.latents = kept_array(run / LATENTS_FILE, self.encode_all)
        if self.recipe.appearances:
            self.changed = kept_array(run / CHANGED_FILE, self.encode_changed)
        if self.paintings is not None:
            self.painted = kept_array(run / PAINTED_FILE, self.encode_paintings)

    def encode_all(self) -> np.ndarray:
        """The latents of all pictures, scaled to unit variance."""
        return self._encode(len(self.data.images), lambda number: self.data.images[number], "encoding pictures")

    def encode_paintings(self) -> np.ndarray:
        """The latents of all paintings, in their order."""
        assert self.paintings is not None
        images = self.paintings.images
        return self._encode(len(images), lambda number: images[number], "encoding paintings")

    def encode_changed(self) -> np.ndarray:
        """The latents of `appearance_copies` changed copies for each training picture: of it as it is in the one style that
        appearances are learnt from. An object's other styles then only make more copies of that one, and what is learnt is
        a change of one drawing instead of five, each with its caption.
        """
        copies, numbers = self.recipe.appearance_copies, self.data.train

        def picture(place: int) -> np.ndarray:
            copy, index = divmod(place, len(numbers))
            number = int(numbers[index])
            return change(self.data.images[self.shown[number]], self.appearance(copy, number))

        latents = self._encode(copies * len(numbers), picture, "encoding changed pictures")
        return latents.reshape(copies, len(numbers), *latents.shape[1:])

    def appearance(self, copy: int, number: int) -> Appearance:
        """That of copy `copy` of picture `number`."""
        return draw_appearance(np.random.default_rng(derive_seed(self.recipe.seed, APPEARANCE_STREAM, copy, number)))

    def _encode(self, count: int, picture: Callable[[int], np.ndarray], title: str) -> np.ndarray:
        latents = np.empty((count, *self._latent_shape()), dtype=np.float32)
        progress = Progress(title, count)
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            with torch.no_grad():
                pictures = to_pixels(np.stack([picture(number) for number in range(first, last)]))
                mean = self.vae.encode(torch.from_numpy(pictures).to(self.device)).latent_dist.mean
                latents[first:last] = (mean * self.vae.config.scaling_factor).cpu().numpy()
            progress.update(last)
        progress.close()
        return latents

    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0); nothing besides for the log."""
        recipe = self.recipe
        numbers, draws = self.data.numbers(step, recipe.batch_size)
        captions, latents = [], self.latents[numbers]
        shares = torch.zeros(len(numbers))
        for row, (number, draw) in enumerate(zip(numbers, draws)):
            item = self.data.items[number]
            kind = draw.random() if recipe.appearances or recipe.paintings else 1.0
            if kind < recipe.appearances:
                copy = int(draw.integers(recipe.appearance_copies))
                latents[row] = self.changed[copy, self.place[int(number)]]
                caption = changed_caption(self.appearance(copy, int(number)).words, item.object, draw)
            elif self.paintings is not None and kind < recipe.appearances + recipe.paintings:
                painting, words = self.paintings.choose(item.object, draw)
                latents[row], caption = self.painted[painting], changed_caption(words, item.object, draw)
            else:
                if recipe.appearance_style_share and draw.random() < recipe.appearance_style_share:
                    item = self.data.items[self.shown[int(number)]]
                    latents[row] = self.latents[self.shown[int(number)]]
                caption = make_caption(item, draw, recipe.keywords, recipe.plain_captions)
            captions.append("" if draw.random() < recipe.drop_caption else caption)
            if captions[-1] and recipe.drafts and draw.random() < recipe.drafts:
                shares[row] = float(np.sqrt(draw.random()))
        generator = self.generator(step)
        noise = torch.randn((len(numbers), *self._latent_shape()), generator=generator)
        timesteps = spread_timesteps(len(numbers), generator, recipe.timestep_power)
        if recipe.drafts:
            drafts = torch.from_numpy(self.latents[[self.shown[int(number)] for number in numbers]])
            clean = torch.from_numpy(latents)
            timesteps = draft_timesteps(timesteps, shares, recipe.draft_timesteps)
            noise = noise_with_drafts(noise, clean, drafts, shares, timesteps, self.scheduler.alphas_cumprod)
        return self._error(self.predict, latents, captions, noise, timesteps), {}

    def _error(
        self, predict: Any, clean: np.ndarray, captions: list[str], noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        latents = torch.from_numpy(clean).to(self.device)
        noise, timesteps = noise.to(self.device), timesteps.to(self.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        with self.autocast():
            prediction = predict(noisy, timesteps, self.encode_text(captions)).sample
        return self.criterion(prediction, latents, noise, timesteps)

    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """The text tower's last hidden state, batch × tokens × width, padded as the pipeline pads."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(self.device))[0]

    def validate(self) -> dict[str, float]:
        """`held_out_loss` and `train_loss` at fixed noise and timesteps, captions `a … emoji of …`."""
        values = {}
        for name, held_out in (("held_out_loss", True), ("train_loss", False)):
            numbers = self.data.validation(self.recipe.validate_images, held_out)
            generator = torch.Generator().manual_seed(derive_seed(self.recipe.seed, VALIDATION_STREAM))
            total = 0.0
            for first in range(0, len(numbers), BATCH):
                chosen = numbers[first : first + BATCH]
                noise = torch.randn((len(chosen), *self._latent_shape()), generator=generator)
                timesteps = spread_timesteps(len(chosen), generator)
                captions = [plain_caption(self.data.items[n].style, self.data.items[n].object) for n in chosen]
                total += len(chosen) * float(self._error(self.unet, self.latents[chosen], captions, noise, timesteps))
            if len(numbers):
                values[name] = total / len(numbers)
        return values

    def pipeline(self) -> StableDiffusionPipeline:
        """A generation pipeline over the stage's own modules."""
        return make_pipeline(self.vae, self.text_encoder, self.tokenizer, self.unet, self.scheduler.config)

    def sample(self) -> Image.Image:
        """A row for each style; columns: words of the training split, then held-out ones (if there are any)."""
        return sample_sheet(self.pipeline(), self.data, self.recipe)

    def export(self, folder: Path) -> None:
        """The whole Stable Diffusion in diffusers layout, float16, and the names of all objects that it was trained on."""
        known = dict.fromkeys(self.data.items[number].object for number in self.data.train)
        runs.write_text(folder / WORDS_FILE, "".join(f"{name}\n" for name in known))
        vae, text_encoder, unet = (half_copy(part) for part in (self.vae, self.text_encoder, self.unet))
        make_pipeline(vae, text_encoder, self.tokenizer, unet, self.scheduler.config).save_pretrained(str(folder))


def make_pipeline(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, schedule: Any) -> StableDiffusionPipeline:
    """The modules as a pipeline with DDIM on this configuration, without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler.from_config(schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def compiled(unet: UNet2DConditionModel) -> Any:
    """The UNet's forward pass under torch.compile, on the same weights; UserError where torch cannot compile.

    Attention is written out for it: PyTorch's fused attention is slow on a processor at these head sizes, and the compiler
    cannot look into it. Channels come last, as oneDNN's convolutions want them.
    """
    unet.set_attn_processor(AttnProcessor())
    unet.to(memory_format=torch.channels_last)
    try:
        step = torch.compile(unet)
    except NotImplementedError as error:
        raise UserError(f"compile: {error}; leave it out with --no-compile") from error
    return lambda noisy, *rest: step(noisy.contiguous(memory_format=torch.channels_last), *rest)


def spread_timesteps(count: int, generator: torch.Generator, power: float = 1.0) -> torch.Tensor:
    """int64 of shape (count,): one random timestep of each of `count` spans, in random order.

    Every step then sees all noise levels, which makes its gradient less noisy than independent draws would (Kingma et al.
    2021, appendix I.1, there with one common offset). The spans are equal at `power` 1. Below it the ones of much noise are
    narrower, so that more of the training goes where the caption decides (as Karras et al. 2022, section 5, choose the
    distribution of noise levels).
    """
    places = ((torch.arange(count) + torch.rand(count, generator=generator)) / count) ** power * TIMESTEPS
    return places.to(torch.int64).clamp(max=TIMESTEPS - 1)[torch.randperm(count, generator=generator)]
