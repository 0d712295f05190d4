"""Every noise scheduler of StableDiffusionPipeline, and the EDM, LCM and TCD ones, on a made-up model.

The model is smooth and depends on sample and time, so that a wrong step, scale or noise shows in the trajectory.
"""

from __future__ import annotations

import importlib.util

import diffusers
import numpy as np
import torch
from diffusers.schedulers import KarrasDiffusionSchedulers

from . import CASES, Arrays, Skip, case
from .common import array, integers, normal

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
V = dict(prediction_type="v_prediction")
DEPENDENCY = {"LMSDiscreteScheduler": "scipy", "DPMSolverSDEScheduler": "torchsde"}
#: name of the case -> class and settings
VARIANTS: dict[str, tuple[str, dict]] = {
    "ddim": ("DDIMScheduler", dict(SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)),
    "ddim_v_zero_snr": ("DDIMScheduler", dict(SD, **V, rescale_betas_zero_snr=True, timestep_spacing="trailing")),
    "ddpm": ("DDPMScheduler", dict(SD)),
    "ddpm_learned_range": ("DDPMScheduler", dict(SD, variance_type="fixed_small_log", thresholding=True)),
    "pndm": ("PNDMScheduler", dict(SD, skip_prk_steps=True, steps_offset=1)),
    "pndm_prk": ("PNDMScheduler", dict(SD)),
    "lms": ("LMSDiscreteScheduler", dict(SD)),
    "euler": ("EulerDiscreteScheduler", dict(SD, timestep_spacing="leading", steps_offset=1)),
    "euler_karras_v": ("EulerDiscreteScheduler", dict(SD, **V, use_karras_sigmas=True)),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", dict(SD)),
    "heun": ("HeunDiscreteScheduler", dict(SD)),
    "dpm_multistep": ("DPMSolverMultistepScheduler", dict(SD)),
    "dpm_multistep_karras_third": (
        "DPMSolverMultistepScheduler",
        dict(SD, solver_order=3, use_karras_sigmas=True, final_sigmas_type="zero"),
    ),
    "dpm_multistep_sde_lu": (
        "DPMSolverMultistepScheduler",
        dict(SD, algorithm_type="sde-dpmsolver++", use_lu_lambdas=True, euler_at_final=True),
    ),
    "dpm_singlestep": ("DPMSolverSinglestepScheduler", dict(SD)),
    "dpm_sde": ("DPMSolverSDEScheduler", dict(SD, noise_sampler_seed=5)),
    "kdpm2": ("KDPM2DiscreteScheduler", dict(SD)),
    "kdpm2_ancestral": ("KDPM2AncestralDiscreteScheduler", dict(SD)),
    "deis": ("DEISMultistepScheduler", dict(SD)),
    "unipc": ("UniPCMultistepScheduler", dict(SD)),
    "unipc_v_third": ("UniPCMultistepScheduler", dict(SD, **V, solver_order=3, use_karras_sigmas=True)),
    "edm_euler": ("EDMEulerScheduler", dict()),
    "edm_dpm": ("EDMDPMSolverMultistepScheduler", dict()),
    "edm_dpm_sde": ("EDMDPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++")),
    "lcm": ("LCMScheduler", dict(SD)),
    "tcd": ("TCDScheduler", dict(SD)),
}
missing = {s.name for s in KarrasDiffusionSchedulers} - {name for name, _ in VARIANTS.values()}
if missing:
    raise RuntimeError(f"no case for {sorted(missing)}, which StableDiffusionPipeline accepts")


def _trajectory(name: str, settings: dict) -> Arrays:
    need = DEPENDENCY.get(name)
    if need and importlib.util.find_spec(need) is None:
        raise Skip(f"{name} needs {need}, which is not installed")
    scheduler = getattr(diffusers, name)(**settings)
    steps = 7
    if name == "PNDMScheduler" and not settings.get("skip_prk_steps"):
        steps = 11  # its Runge-Kutta start takes the first ones
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(11)
    sample = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    extra = {"generator": generator}
    takes = scheduler.step.__code__.co_varnames[: scheduler.step.__code__.co_argcount]
    kind = "brownian" if name == "DPMSolverSDEScheduler" else "out"
    path = []
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, time)
        predicted = torch.tanh(scaled * 0.4) + 0.1 * torch.sin(time.float() * 0.01 + torch.arange(8))
        sample = scheduler.step(predicted, time, sample, **{k: v for k, v in extra.items() if k in takes}).prev_sample
        path.append(array(sample))
    out = {
        "out/timesteps": array(scheduler.timesteps).astype(np.float64),
        f"{kind}/path": np.stack(path),
        f"{kind}/last": path[-1],
    }
    if hasattr(scheduler, "sigmas"):
        out["out/sigmas"] = array(torch.as_tensor(scheduler.sigmas)).astype(np.float64)
    if hasattr(scheduler, "add_noise"):
        times = scheduler.timesteps[torch.tensor([1, 3])] if hasattr(scheduler, "sigmas") else integers(3, 0, 1000, 2)
        out["out/noised"] = array(scheduler.add_noise(normal(4, 2, 4, 8, 8), normal(5, 2, 4, 8, 8), times))
    return out


def _make(label: str, name: str, settings: dict) -> None:
    def run() -> Arrays:
        return _trajectory(name, settings)

    run.__name__ = f"scheduler_{label}"
    run.__doc__ = f"{name} with {settings}."
    case(run)


for _label, (_name, _settings) in VARIANTS.items():
    _make(_label, _name, _settings)
NAMES = [name for name in CASES if name.startswith("scheduler_")]
