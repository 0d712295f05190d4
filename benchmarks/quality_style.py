"""Who says in which style a picture is: two classifiers, one taught by true pictures, one by true and softened ones.

A judge that has met nothing but sharp pictures takes sharpness for style: a true picture with a blur of little more than a
pixel is a smooth 3D drawing to it, whatever it shows. Every autoencoder softens. So the judge that counts has also seen
each of its pictures a little blurred, at half its size and badly compressed; what the strict one says stands beside it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Sequence

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.quality_measures import StyleClassifier
from benchmarks.quality_networks import Networks

BLURS, QUALITY = (0.7, 1.2), 30
Pictures = Sequence[Sequence[np.ndarray]]  # of each style
Looked = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Judge:
    """A classifier, with its accuracy on true pictures of held-out objects, and on these softened; None without any."""

    classifier: StyleClassifier
    accuracy: float | None
    softened_accuracy: float | None

    def right(self, statistics: np.ndarray, style: int) -> np.ndarray:
        """Which of the pictures are given to this style, ``(pictures,)`` bool."""
        return self.classifier.predict(statistics) == style


def softened(picture: np.ndarray) -> list[np.ndarray]:
    """Copies of a uint8 picture: blurred by 0.7 and 1.2 px, made half as large and back, and as JPEG of quality 30."""
    image = Image.fromarray(picture)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    copies = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in BLURS]
    copies += [half.resize(image.size, Image.Resampling.BICUBIC), Image.open(stream).convert("RGB")]
    return [np.asarray(copy) for copy in copies]


def teach(networks: Networks, lessons: Pictures, exams: Pictures) -> tuple[Judge, Judge]:
    """The judge that counts and the strict one, from the true pictures of each style and others to examine them with."""
    true, soft = _look(networks, lessons, "lessons", False), _look(networks, lessons, "lessons", True)
    exam = [_look(networks, exams, "exams", soften) if any(exams) else None for soften in (False, True)]

    def judge(*taught: Looked) -> Judge:
        classifier = StyleClassifier(*(np.concatenate(part) for part in zip(*taught)))
        return Judge(classifier, *(None if looked is None else classifier.accuracy(*looked) for looked in exam))

    return judge(true, soft), judge(true)


def _look(networks: Networks, styles: Pictures, kind: str, soften: bool) -> Looked:
    """Statistics and style numbers of all pictures, or of their softened copies."""
    pictures, labels = [], []
    for number, own in enumerate(styles):
        copies = [copy for picture in own for copy in softened(picture)] if soften else list(own)
        pictures += copies
        labels += [number] * len(copies)
    return networks.look(pictures, f"{kind} on style" + ", softened" * soften)[1], np.array(labels)
