"""CLIPTextModel and CLIPTextModelWithProjection."""

from __future__ import annotations

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from . import Arrays, case
from .common import array, digest, gradient_norms, gradients, normal, text_config, token_ids


@case
def clip_text() -> Arrays:
    """As in SD 1.5 (quick_gelu), all hidden states, a padding mask, and one backward pass."""
    torch.manual_seed(1)
    model = CLIPTextModel(text_config()).eval()
    ids = token_ids(1)
    mask = torch.ones(2, 77, dtype=torch.int64)
    mask[0, 12:] = 0
    with torch.no_grad():
        masked = model(ids, attention_mask=mask)
    out = model(ids, output_hidden_states=True)
    ((out.last_hidden_state * normal(6, 2, 77, 24)).mean() + (out.pooler_output * normal(7, 2, 24)).mean()).backward()
    names = ("text_model.embeddings.token_embedding.weight", "text_model.encoder.layers.0.self_attn.q_proj.weight")
    return {
        "init/weights": digest(model),
        "out/masked": array(masked.last_hidden_state),
        "out/last": array(out.last_hidden_state),
        "out/pooled": array(out.pooler_output),
        "out/hidden 1": array(out.hidden_states[1]),
        "grad/norm of each parameter": gradient_norms(model),
        **gradients(model, names),
    }


@case
def clip_text_projection() -> Arrays:
    """As in SDXL's second encoder: gelu, a projection, and the end token found the old way (``eos_token_id`` 2)."""
    torch.manual_seed(2)
    config = text_config(hidden_act="gelu", projection_dim=16, eos_token_id=2)
    model = CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        out = model(token_ids(2), output_hidden_states=True)
    return {
        "init/weights": digest(model),
        "out/embedding": array(out.text_embeds),
        "out/penultimate": array(out.hidden_states[-2]),
    }
