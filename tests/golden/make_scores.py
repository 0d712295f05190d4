# ruff: noqa: E402 - where the cases lie has to be said before they are imported
"""Makes scores.json with transformers' processors and models and torchmetrics, on score_cases.py:
`.venv-reference/bin/python tests/golden/make_scores.py [FILE]`.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import score_cases as cases
from PIL import Image
from torchmetrics.functional.multimodal import clip_image_quality_assessment, clip_score
from transformers import AutoImageProcessor, CLIPModel, CLIPProcessor, Dinov2Model


def opened(folder, style, name):
    return Image.open(folder / style / f"{name}.png").convert("RGB")


@torch.no_grad()
def main(target):
    root = pathlib.Path(tempfile.mkdtemp())
    pack, made = cases.write_pack(root / "pack"), cases.write_generated(root / "made")
    dino, clip = cases.write_dino(root / "dino"), cases.write_clip(root / "openai-clip")
    processor, model = AutoImageProcessor.from_pretrained(dino), Dinov2Model.from_pretrained(dino)
    both, network = CLIPProcessor.from_pretrained(clip), CLIPModel.from_pretrained(clip)
    result = {"dino": {}, "clip_iqa": {}, "clip_score": {}, "clip_r": {}, "clip_r_top1": {}}

    def look(picture):
        return model(**processor(images=picture, return_tensors="pt")).pooler_output[0]

    for style in cases.STYLES:
        references = [look(opened(pack, style, f"images/{index}")) for index in range(3)]
        for word in cases.WORDS:
            picture, key = opened(made, style, word), f"{style}/{word}"
            own = look(picture)
            similar = [torch.cosine_similarity(own, other, dim=0).item() for other in references]
            result["dino"][key] = float(np.mean(similar))
            pixels = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())
            result["clip_score"][key] = clip_score(pixels, word, model_name_or_path=str(clip)).item()
            quality = clip_image_quality_assessment(
                pixels[None].float(), model_name_or_path=str(clip), data_range=1.0, prompts=("quality",)
            )
            result["clip_iqa"][key] = quality.item()
            # As the checker: the list in lower case and the picture's own name; its name among the five best.
            names = [name.lower() for name in cases.CANDIDATES] + [word.lower()]
            logits = network(**both(text=names, images=picture, return_tensors="pt", padding=True)).logits_per_image[0]
            best = [names[index] for index in logits.topk(5).indices]
            result["clip_r"][key] = float(word.lower() in best)
            result["clip_r_top1"][key] = float(word.lower() == best[0])
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "scores.json")
