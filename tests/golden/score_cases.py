"""Small random DINOv2 and CLIP folders and pictures, the same on Jittor and PyTorch; for make_scores.py and its test."""

import json

import numpy as np
from PIL import Image

STYLES = ("00", "01")
WORDS = ("cat", "Dog", "red fish", "ring", "watch", "tree", "house", "boat")
CANDIDATES = ("Cat", "dog", "fish", "Ring", "watch", "Watch", "tree", "house", "mug", "moon")


def picture(*seed):
    """A picture with edges and noise, of one of several sizes."""
    rng = np.random.default_rng(seed)
    width, height = ((48, 40), (40, 64), (96, 96))[int(rng.integers(3))]
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    large = coarse.resize((width, height), Image.Resampling.NEAREST)
    return Image.fromarray(np.asarray(large) ^ rng.integers(0, 64, (height, width, 3), dtype=np.uint8))


def write_pack(folder, styles=STYLES, references=3, words=WORDS):
    """References, words and candidates of both styles."""
    for number, style in enumerate(styles):
        (folder / style / "images").mkdir(parents=True)
        for index in range(references):
            picture(1, number, index).save(folder / style / "images" / f"{index}.png")
        (folder / style / "prompt.json").write_text(json.dumps({str(i): word for i, word in enumerate(words)}))
    (folder / "clip_r_prompts.txt").write_text("\n".join(CANDIDATES))
    return folder


def write_generated(folder, styles=STYLES, words=WORDS):
    """One picture per style and word."""
    for number, style in enumerate(styles):
        (folder / style).mkdir(parents=True)
        for index, word in enumerate(words):
            picture(2, number, index).save(folder / style / f"{word}.png")
    return folder


def _fill(model, seed):
    import torch

    rng = np.random.default_rng(seed)
    # By name, since modules may be made in another order.
    for name, value in sorted(model.named_parameters()):
        if value.dim() == 0:  # CLIP's temperature
            continue
        # Texts that differ little: CLIP-IQA's softmax over 100 cosines would be 0 or 1 otherwise.
        drawn = rng.normal(0, 0.02 if "text_model.embeddings" in name else 0.15, tuple(value.shape)).astype(np.float32)
        value.data = torch.from_numpy(drawn + (1 if "norm" in name and name.endswith("weight") else 0))
    return model.eval()


def write_dino(folder):
    """DINOv2 of two layers."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28, "patch_size": 14}
    _fill(Dinov2Model(Dinov2Config(**sizes)), 1).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 34}, crop_size=28, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)
    return folder


def write_locked_clip(folder):
    """The same text tower with a projection of EfficientNet-Lite0's 1280 features in place of the image tower."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from eval import weights
    from jdiff_style.image_projection import ImageProjection, save_projection

    whole = write_clip(folder.with_name(f"{folder.name}-whole"))
    config = CLIPTextConfig(**json.loads((whole / "config.json").read_text())["text_config"], projection_dim=16)
    _fill(CLIPTextModelWithProjection(config), 8).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    projection = ImageProjection(1280, 16)
    values = np.random.default_rng(3).normal(size=(16, 1280)).astype(np.float32)
    projection.linear.load_state_dict({"weight": torch.from_numpy(values)})
    network = {"network": "EfficientNet-Lite0", "sha256": weights.find("efficientnet_lite0").sha256}
    save_projection(folder, projection, network)
    return folder


def write_clip(folder):
    """CLIP of two layers each, with a tokenizer of single bytes. The folder's name needs "openai" for torchmetrics."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    layers = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    text = {**layers, "vocab_size": 514, "max_position_embeddings": 24, "bos_token_id": 512, "eos_token_id": 513,
            "pad_token_id": 513}  # fmt: skip
    vision = {**layers, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    _fill(CLIPModel(config), 8).save_pretrained(folder)
    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(folder / "vocab.json", folder / "merges.txt", model_max_length=24).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder
