"""The `clip` stage: a tokenizer learnt from the captions, and a text tower whose vectors meet those of pictures.

The image side is a network that stays as it is, under one trained linear layer: locked-image tuning (Zhai et al. 2022). A
few thousand drawings teach an image tower of its own too little: it does not know an object again in a style it never saw.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from jdiff_style.checkpoint import sha256
from jdiff_style.dataset import NOISE, derive_seed
from jdiff_style.errors import UserError
from jdiff_style.image_projection import ImageProjection, save_projection
from jdiff_style.picture_features import HOW, features_file, read_features, read_info
from jdiff_style.pretrain_data import (
    IMAGES_FILE,
    OTHER_STYLES,
    Item,
    PretrainData,
    evenly,
    make_caption,
    names_style,
    read_pictures,
)
from jdiff_style.pretrain_recipe import ClipRecipe
from jdiff_style.pretrain_stage import Stage, half_copy
from jdiff_style.tokenizer_build import learn_merges, words_of, write_tokenizer

BATCH, FIRST_SCALE, LARGEST_SCALE = 64, 1 / 0.07, 100.0  # the scales of Radford et al. 2021, section 2.5


class LockedClip(nn.Module):
    """Text tower, projection of picture features, and the scale of their likeness (its logarithm is trained)."""

    def __init__(self, text: CLIPTextModelWithProjection, image: ImageProjection):
        super().__init__()
        self.text, self.image = text, image
        self.logit_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))


class ClipStage(Stage):
    """Symmetric contrastive loss over the pictures and captions of a batch (Radford et al. 2021, figure 3)."""

    recipe: ClipRecipe
    measurement = "top5_train"

    def __init__(self, recipe: ClipRecipe):
        super().__init__(recipe)
        self.info = read_info(self.data.folder)
        width = self.info["width"]
        self.features = read_features(self.data.folder, IMAGES_FILE, len(self.data.images), width)
        self.others = None
        if recipe.measure:
            place = Path(recipe.measure)
            pictures, described = read_pictures(place, *OTHER_STYLES, "measure")
            if read_info(place, "measure")["sha256"] != self.info["sha256"]:
                raise UserError("measure: its features come from another network than those of data; make both anew")
            self.others = read_features(place, OTHER_STYLES[0], len(pictures), width, "measure"), described
        self.tokenizer = build_tokenizer(self.data, recipe)
        # Built after the tokenizer so that only the seed and the sizes decide the starting weights.
        torch.manual_seed(recipe.seed)
        text = CLIPTextModelWithProjection(
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
            )
        )
        self.clip = LockedClip(text, ImageProjection(width, recipe.projection, recipe.feature_dropout)).to(self.device)
        self.parts = {"clip": self.clip}

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the data and of the features. UserError if the features are of other pictures."""
        folder, made_of = self.data.folder, self.info["of"].get(IMAGES_FILE)
        if made_of != sha256(folder / IMAGES_FILE):
            raise UserError(f"data: {folder / features_file(IMAGES_FILE)} is of other pictures; {HOW} anew")
        return {**super().inputs(), "features": sha256(folder / features_file(IMAGES_FILE))}

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise at `step` (from 0), and the share of pictures whose caption is the nearest."""
        numbers, draws = self.data.numbers(step, self.recipe.batch_size)
        items = [self.data.items[n] for n in numbers]
        captions = [make_caption(item, draw, self.recipe.keywords) for item, draw in zip(items, draws)]
        versions = [int(draw.integers(self.features.shape[1])) for draw in draws]
        chosen = self.features[numbers, versions].astype(np.float32)
        torch.manual_seed(derive_seed(self.recipe.seed, NOISE, step))  # dropout draws from the global stream
        barred = torch.from_numpy(also_right(items, captions)).to(self.device)
        with self.autocast():
            images, texts = self.encode(chosen), self.encode_texts(captions)
        scale = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        logits = (scale * (images @ texts.t())).masked_fill(barred, -1e4)
        target = torch.arange(len(numbers), device=self.device)
        loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target))
        return loss, {"accuracy": (logits.argmax(dim=1) == target).to(torch.float32).mean(), "scale": scale}

    def encode(self, features: np.ndarray) -> torch.Tensor:
        """Unit vectors, float32 batch × projection, of float32 picture features."""
        return F.normalize(self.clip.image(torch.from_numpy(features).to(self.device)).to(torch.float32), dim=-1)

    def encode_texts(self, captions: list[str]) -> torch.Tensor:
        """Unit vectors, float32 batch × projection, of captions cut at the tokenizer's length."""
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.recipe.max_tokens, return_tensors="pt"
        ).input_ids
        return F.normalize(self.clip.text(input_ids=tokens.to(self.device)).text_embeds.to(torch.float32), dim=-1)

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
            images = self._encode_all(self.features, numbers)
            items = [self.data.items[n] for n in numbers]
            names = list(dict.fromkeys(item.object for item in items))
            ranks = self._ranks(images, names, [names.index(item.object) for item in items])
            values[f"top1{suffix}"] = float(np.mean(ranks < 1))
            values[f"top5{suffix}"] = float(np.mean(ranks < 5))
            styles = self.data.styles
            ranks = self._ranks(images, styles, [styles.index(item.style) for item in items])
            values[f"style{suffix}"] = float(np.mean(ranks < 1))
        if self.others is not None:
            features, described = self.others
            names = list(dict.fromkeys(self.data.items[n].object for n in self.data.train))
            place = {name: number for number, name in enumerate(names)}
            known = np.flatnonzero([item.train and item.object in place for item in described])
            known = known[evenly(len(known), self.recipe.validate_images)]
            if len(known):
                right = [place[described[n].object] for n in known]
                ranks = self._ranks(self._encode_all(features, known), names, right)
                values["top1_other"] = float(np.mean(ranks < 1))
                values["top5_other"] = float(np.mean(ranks < 5))
        return values

    def _encode_all(self, features: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
        parts = [numbers[i : i + BATCH] for i in range(0, len(numbers), BATCH)]
        return torch.cat([self.encode(features[part, 0].astype(np.float32)) for part in parts])

    def _ranks(self, images: torch.Tensor, names: list[str], right: list[int]) -> np.ndarray:
        """How many names are as near to each image as the right one or nearer; UserError if a likeness is not finite."""
        texts = torch.cat([self.encode_texts(names[i : i + BATCH]) for i in range(0, len(names), BATCH)])
        likeness = (images @ texts.t()).cpu().numpy()
        own = likeness[np.arange(len(right)), right]
        if not np.isfinite(likeness).all():
            raise UserError("a likeness of picture and name is not finite; start a new run with a lower learning_rate")
        return (likeness >= own[:, None]).sum(axis=1) - 1

    def export(self, folder: Path) -> None:
        """CLIPTextModelWithProjection in transformers layout and the image projection, float16, with the tokenizer."""
        half_copy(self.clip.text).save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))
        save_projection(folder, self.clip.image, self.info)


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
