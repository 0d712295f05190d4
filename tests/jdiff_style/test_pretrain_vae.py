"""The autoencoder's loss: what noise and coarse latents teach, and what is refused."""

import numpy as np
import pytest
import torch

from jdiff_style.errors import UserError
from jdiff_style.pretrain_recipe import VaeRecipe
from jdiff_style.pretrain_vae import VaeStage


@pytest.fixture(scope="module")
def stage(tmp_path_factory, pretrain_data):
    """`stage(**fields)`: a small autoencoder on 16 px pictures, always from the same weights."""
    data = pretrain_data(tmp_path_factory.mktemp("vae") / "data")

    def make(**fields):
        return VaeStage(VaeRecipe(data=str(data), channels=(8, 16), norm_groups=4, batch_size=4, **fields))

    return make


def gradients(stage, step=0):
    """encoder's and decoder's gradients after one loss, each as one long vector."""
    loss, _ = stage.loss(step)
    loss.backward()
    found = {}
    for name in ("encoder", "decoder"):
        parts = [p.grad.cpu().numpy().reshape(-1) for p in getattr(stage.vae, name).parameters()]
        found[name] = np.concatenate(parts)
    return found


def test_noise_teaches_the_decoder_alone(stage):
    little, much = gradients(stage(latent_noise=0.1)), gradients(stage(latent_noise=5.0))
    assert np.abs(little["encoder"]).max() > 0
    assert np.allclose(little["encoder"], much["encoder"], rtol=1e-4, atol=1e-7)
    assert not np.allclose(little["decoder"], much["decoder"], rtol=1e-2, atol=1e-3)


def test_coarse_latents_are_decoded_to_pictures_of_half_the_side(stage):
    kept = stage(coarse_latents=1.0)
    sizes = []
    kept.vae.decoder.register_forward_hook(lambda module, given, made: sizes.append((given[0].shape[2], made.shape[2])))
    gradients(kept)
    assert sizes == [(4, 8)]


def test_the_share_of_coarse_steps_is_that_of_the_recipe(stage):
    kept = stage(coarse_latents=0.25)
    sides = []
    kept.vae.decoder.register_forward_hook(lambda module, given, made: sides.append(made.shape[2]))
    with torch.no_grad():
        for step in range(80):
            kept.loss(step)
    assert set(sides) == {8, 16} and 10 <= sides.count(8) <= 30  # 80 draws of 0.25: 20 ± 3.9


def test_until_the_latents_have_settled_there_is_neither(stage):
    plain, settling = stage(), stage(latent_noise=0.5, coarse_latents=1.0, settle_steps=2)
    with torch.no_grad():
        same = [float(plain.loss(step)[0]) == float(settling.loss(step)[0]) for step in range(4)]
    assert same == [True, True, False, False]


def test_the_colour_term_leaves_out_what_is_grey(stage):
    kept = stage(colour_weight=2.0, kl_weight=0.0)
    with torch.no_grad():
        loss, terms = kept.loss(0)
    assert float(loss) == pytest.approx(float(terms["l1"] + terms["l2"] + 2 * terms["colour"]), rel=1e-5)
    grey = stage(colour_weight=2.0)
    grey.data.images = np.repeat(grey.data.images[..., :1], 3, axis=3)
    decode = grey.vae.decode

    def decoded_grey(latents):
        made = decode(latents)
        made.sample = made.sample.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return made

    grey.vae.decode = decoded_grey
    with torch.no_grad():
        terms = grey.loss(0)[1]
    assert float(terms["colour"]) < 1e-6 < float(terms["l1"])


def test_what_cannot_work_is_refused(stage, tmp_path, pretrain_data):
    with pytest.raises(UserError, match="latent_noise: half of a batch gets it, and batch_size is 1"):
        VaeRecipe(data="d", batch_size=1, latent_noise=0.1).check()
    odd = pretrain_data(tmp_path / "odd", side=10)
    with pytest.raises(UserError, match="coarse_latents: the side of the latents, 5, is odd"):
        VaeStage(VaeRecipe(data=str(odd), channels=(8, 16), norm_groups=4, coarse_latents=0.5))
