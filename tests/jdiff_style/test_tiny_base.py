"""The tiny random-weight base model and its tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from jdiff_style.checkpoint import sha256
from jdiff_style.errors import UserError
from jdiff_style.tiny_base import make_tiny_base


def test_it_draws_a_picture_and_is_small(tiny_base):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny_base), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a cat in style_07", num_inference_steps=2, height=32, width=32).images[0]
    assert image.size == (32, 32)
    assert sum(f.stat().st_size for f in tiny_base.rglob("*")) < 8_000_000


def test_the_same_seed_gives_the_same_files(tiny_base, tmp_path):
    again = make_tiny_base(tmp_path / "again")
    other = make_tiny_base(tmp_path / "other", prediction_type="v_prediction", seed=1)
    files = sorted(f.relative_to(tiny_base) for f in tiny_base.rglob("*") if f.is_file())
    assert len(files) == 12
    assert [sha256(tiny_base / f) for f in files] == [sha256(again / f) for f in files]
    assert sha256(other / "unet" / "diffusion_pytorch_model.safetensors") != sha256(
        again / "unet" / "diffusion_pytorch_model.safetensors"
    )
    assert '"prediction_type": "v_prediction"' in (other / "scheduler" / "scheduler_config.json").read_text()


def test_nothing_is_overwritten(tiny_base):
    with pytest.raises(UserError, match="exists already"):
        make_tiny_base(tiny_base)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_every_text_survives_the_tokenizer(tiny_base, text):
    tokenizer = CLIPTokenizer.from_pretrained(str(tiny_base / "tokenizer"))
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")
