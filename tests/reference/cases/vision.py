"""DINOv2 and CLIP's two towers."""

from __future__ import annotations

import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, Dinov2Config, Dinov2Model

from . import Arrays, case
from .common import array, digest, gradient_norms, normal, text_config, token_ids


@case
def dinov2() -> Arrays:
    """At the training size, and at another one, for which the position embeddings are interpolated (bicubic)."""
    torch.manual_seed(6)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14,
        layerscale_value=0.7,
    )  # fmt: skip
    model = Dinov2Model(config).eval()
    with torch.no_grad():
        same = model(normal(1, 2, 3, 56, 56), output_hidden_states=True)
        other = model(normal(2, 1, 3, 84, 70))
        smaller = model(normal(3, 1, 3, 42, 42))
    return {
        "init/weights": digest(model),
        "out/same": array(same.last_hidden_state),
        "out/hidden 1": array(same.hidden_states[1]),
        "out/pooled": array(same.pooler_output),
        "out/larger": array(other.last_hidden_state),
        "out/smaller": array(smaller.last_hidden_state),
    }


@case
def clip() -> Arrays:
    """Image and text embeddings, their logits, and the contrastive loss with its gradient."""
    torch.manual_seed(7)
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    model = CLIPModel(CLIPConfig.from_text_vision_configs(text_config(), vision, projection_dim=16)).eval()
    out = model(input_ids=token_ids(3), pixel_values=normal(4, 2, 3, 32, 32), return_loss=True)
    out.loss.backward()
    with torch.no_grad():
        features = model.get_image_features(normal(5, 1, 3, 32, 32))
    return {
        "init/weights": digest(model),
        "out/image": array(out.image_embeds),
        "out/text": array(out.text_embeds),
        "out/logits": array(out.logits_per_image),
        "out/features": array(features),
        "loss/contrastive": array(out.loss),
        "grad/norm of each parameter": gradient_norms(model),
    }
