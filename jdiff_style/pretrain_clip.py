"""The `clip` stage: a tokenizer learnt from the captions, and a small CLIPModel that matches pictures and captions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from jdiff_style.errors import UserError
from jdiff_style.pretrain import Stage, half_copy
from jdiff_style.pretrain_augment import alter
from jdiff_style.pretrain_data import (
    OTHER_STYLES,
    Item,
    PretrainData,
    evenly,
    make_caption,
    names_style,
    read_pictures,
    to_pixels,
)
from jdiff_style.pretrain_recipe import ClipRecipe
from jdiff_style.tokenizer_build import learn_merges, words_of, write_tokenizer

BATCH, LARGEST_SCALE = 64, 100.0


class ClipStage(Stage):
    """Symmetric contrastive loss over the pictures and captions of a batch (Radford et al. 2021, figure 3)."""

    recipe: ClipRecipe
    measurement = "top5_train"

    def __init__(self, recipe: ClipRecipe):
        super().__init__(recipe)
        if self.data.side % recipe.patch:
            raise UserError(f"patch: {recipe.patch} does not divide the pictures' side {self.data.side}")
        self.tokenizer = build_tokenizer(self.data, recipe)
        # Built after the tokenizer so that only the seed and the sizes decide the starting weights.
        torch.manual_seed(recipe.seed)
        self.clip = CLIPModel(
            CLIPConfig.from_text_vision_configs(
                CLIPTextConfig(
                    vocab_size=len(self.tokenizer),
                    hidden_size=recipe.text_width,
                    intermediate_size=4 * recipe.text_width,
                    num_hidden_layers=recipe.text_layers,
                    num_attention_heads=recipe.text_width // recipe.head_width,
                    max_position_embeddings=recipe.max_tokens,
                    projection_dim=recipe.projection,
                    bos_token_id=self.tokenizer.bos_token_id,
                    eos_token_id=self.tokenizer.eos_token_id,
                    pad_token_id=self.tokenizer.pad_token_id,
                ),
                CLIPVisionConfig(
                    hidden_size=recipe.vision_width,
                    intermediate_size=4 * recipe.vision_width,
                    num_hidden_layers=recipe.vision_layers,
                    num_attention_heads=recipe.vision_width // recipe.head_width,
                    image_size=self.data.side,
                    patch_size=recipe.patch,
                    projection_dim=recipe.projection,
                ),
                projection_dim=recipe.projection,
            )
        ).to(self.device)
        self.parts = {"clip": self.clip}
        self.others = read_pictures(Path(recipe.measure), *OTHER_STYLES, "measure") if recipe.measure else None
        if self.others is not None and self.others[0].shape[1] != self.data.side:
            raise UserError(f"measure: its pictures are {self.others[0].shape[1]} px wide, those of data {self.data.side}")

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0), and the share of pictures whose caption is the nearest."""
        numbers, draws = self.data.numbers(step, self.recipe.batch_size)
        items = [self.data.items[n] for n in numbers]
        captions = [make_caption(item, draw, self.recipe.keywords) for item, draw in zip(items, draws)]
        chosen = self.data.images[numbers]
        if self.recipe.alter:
            for place, draw in enumerate(draws):
                if draw.random() < self.recipe.alter:
                    chosen[place] = alter(chosen[place], draw)
        pictures = torch.from_numpy(self._moved(to_pixels(chosen), draws))
        generator = self.generator(step)
        strength = torch.rand((len(numbers), 1, 1, 1), generator=generator) * self.recipe.image_noise
        pictures = pictures + strength * torch.randn(pictures.shape, generator=generator)
        barred = torch.from_numpy(also_right(items, captions)).to(self.device)
        with self.autocast():
            images, texts = self.encode(pictures.to(self.device)), self.encode_texts(captions)
        scale = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        logits = (scale * (images @ texts.t())).masked_fill(barred, -1e4)
        target = torch.arange(len(numbers), device=self.device)
        loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target))
        return loss, {"accuracy": (logits.argmax(dim=1) == target).to(torch.float32).mean(), "scale": scale}

    def _moved(self, pixels: np.ndarray, draws: list[np.random.Generator]) -> np.ndarray:
        """The pictures, each moved by up to `shift` pixels, the border repeated."""
        reach, side = self.recipe.shift, self.data.side
        if not reach:
            return pixels
        wide = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
        moved = np.empty_like(pixels)
        for place, draw in enumerate(draws):
            top, left = draw.integers(0, 2 * reach + 1, 2)
            moved[place] = wide[place, :, top : top + side, left : left + side]
        return moved

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Unit vectors, float32 batch × projection, of pictures in [-1, 1]."""
        return F.normalize(self.clip.get_image_features(pixel_values=pictures).to(torch.float32), dim=-1)

    def encode_texts(self, captions: list[str]) -> torch.Tensor:
        """Unit vectors, float32 batch × projection, of captions cut at the tokenizer's length."""
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.recipe.max_tokens, return_tensors="pt"
        ).input_ids
        return F.normalize(self.clip.get_text_features(input_ids=tokens.to(self.device)).to(torch.float32), dim=-1)

    def validate(self) -> dict[str, float]:
        """`top1` and `top5` of held-out pictures, `…_train` of training ones: how often the object's bare name is among
        the 1 or 5 nearest of the names of all objects measured; `style_…`: how often the style's word is the nearest.

        With `measure`, also `top1_other` and `top5_other`: pictures there, in styles never trained on, of objects of the
        training split, among the names of all these objects.
        """
        values = {}
        for suffix, held_out in (("", True), ("_train", False)):
            numbers = self.data.validation(self.recipe.validate_images, held_out)
            if not len(numbers):
                continue
            images = self._encode_all(self.data.images, numbers)
            items = [self.data.items[n] for n in numbers]
            names = list(dict.fromkeys(item.object for item in items))
            ranks = self._ranks(images, names, [names.index(item.object) for item in items])
            values[f"top1{suffix}"] = float(np.mean(ranks < 1))
            values[f"top5{suffix}"] = float(np.mean(ranks < 5))
            styles = self.data.styles
            ranks = self._ranks(images, styles, [styles.index(item.style) for item in items])
            values[f"style{suffix}"] = float(np.mean(ranks < 1))
        if self.others is not None:
            pictures, described = self.others
            names = list(dict.fromkeys(self.data.items[n].object for n in self.data.train))
            place = {name: number for number, name in enumerate(names)}
            known = np.flatnonzero([item.train and item.object in place for item in described])
            known = known[evenly(len(known), self.recipe.validate_images)]
            if len(known):
                right = [place[described[n].object] for n in known]
                ranks = self._ranks(self._encode_all(pictures, known), names, right)
                values["top1_other"] = float(np.mean(ranks < 1))
                values["top5_other"] = float(np.mean(ranks < 5))
        return values

    def _encode_all(self, images: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
        parts = [numbers[i : i + BATCH] for i in range(0, len(numbers), BATCH)]
        return torch.cat([self.encode(torch.from_numpy(to_pixels(images[part])).to(self.device)) for part in parts])

    def _ranks(self, images: torch.Tensor, names: list[str], right: list[int]) -> np.ndarray:
        """How many names are as near to each image as the right one or nearer; UserError if a likeness is not finite."""
        texts = torch.cat([self.encode_texts(names[i : i + BATCH]) for i in range(0, len(names), BATCH)])
        likeness = (images @ texts.t()).cpu().numpy()
        own = likeness[np.arange(len(right)), right]
        if not np.isfinite(likeness).all():
            raise UserError("a likeness of picture and name is not finite; start a new run with a lower learning_rate")
        return (likeness >= own[:, None]).sum(axis=1) - 1

    def export(self, folder: Path) -> None:
        """CLIPModel in transformers layout, float16, with tokenizer and image processor."""
        half_copy(self.clip).save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))
        side = self.data.side
        CLIPImageProcessor(
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        ).save_pretrained(str(folder))


def build_tokenizer(data: PretrainData, recipe: ClipRecipe) -> CLIPTokenizer:
    """A CLIPTokenizer whose merges are learnt from the training captions."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tokenizer"
        write_tokenizer(place, learn_merges(words_of(data.all_captions()), recipe.merges), recipe.max_tokens)
        return CLIPTokenizer.from_pretrained(str(place))


def also_right(items: list[Item], captions: list[str]) -> np.ndarray:
    """bool picture × caption: the caption was written for another picture but is true of this one.

    So it is when both show the same object and the caption names this picture's style or none.
    """
    size = len(items)
    result = np.zeros((size, size), dtype=bool)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.object, []).append(place)
    for same in places.values():
        for picture in same:
            for text in same:
                styled = names_style(captions[text], items[text]) and items[text].style != items[picture].style
                result[picture, text] = picture != text and not styled
    return result
