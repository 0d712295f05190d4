"""Cases for optimizers, learning-rate schedules and data loading that run alike on PyTorch and on this backend.

`make_training.py` stores what PyTorch computes, the tests compare.
"""

import math
import random
import warnings

import numpy as np
import torch
from torch.optim import lr_scheduler
from torch.utils import data

STEPS = 20
SHAPES = ((3, 4), (5,), (), (2, 3, 4))

OPTIMIZERS = {
    "adamw": ("AdamW", {}),
    "adamw-amsgrad-maximize": ("AdamW", {"amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    "adamw-low-beta": ("AdamW", {"betas": (0.4, 0.9), "eps": 1e-4}),
    "adam": ("Adam", {}),
    "adam-decay": ("Adam", {"weight_decay": 0.1}),
    "sgd": ("SGD", {}),
    "sgd-nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "sgd-dampening": ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    "adagrad": ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
    "rmsprop": ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    "rmsprop-centered": ("RMSprop", {"centered": True}),
    "adamax": ("Adamax", {"weight_decay": 0.1}),
}


def wave(shape, phase):
    """Fixed values in [-1, 1]."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.7 + phase).reshape(shape)


def run_optimizer(name, reload_at=None):
    """Final parameters (a list of flat lists) of 20 steps on given gradients, in two groups with their own rates.

    With ``reload_at`` the optimizer is replaced before that step by a new one that loads its state dict.
    """
    kind, options = OPTIMIZERS[name]
    params = [torch.nn.Parameter(wave(shape, i)) for i, shape in enumerate(SHAPES)]

    def make():
        groups = [{"params": params[:2], "lr": 0.05}, {"params": params[2:]}]
        return getattr(torch.optim, kind)(groups, lr=0.01, **options)

    optimizer = make()
    for step in range(STEPS):
        if step == reload_at:
            state = optimizer.state_dict()
            optimizer = make()
            optimizer.load_state_dict(state)
        for i, p in enumerate(params):
            late = i == 1 and step < 3  # a parameter that gets no gradient at first
            p.grad = None if late else wave(p.shape, 10 * i + 1.3 * step)
        optimizer.step()
    return [p.detach().reshape(-1).tolist() for p in params]


SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda e: 0.95**e),
    "lambda-list": lambda s, o: s.LambdaLR(o, [lambda e: 1 / (1 + e), lambda e: 1.0]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.95),
    "step": lambda s, o: s.StepLR(o, 3),
    "multistep": lambda s, o: s.MultiStepLR(o, [2, 4, 4, 20]),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 7),
    "linear": lambda s, o: s.LinearLR(o, 0.1, 0.7, 8),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 10, 0.001),
    "cosine-twice-over": lambda s, o: s.CosineAnnealingLR(o, 7),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "onecycle": lambda s, o: s.OneCycleLR(o, [1.0, 2.0], 32),
    "onecycle-three-phase": lambda s, o: s.OneCycleLR(
        o, 1.0, epochs=4, steps_per_epoch=9, three_phase=True, anneal_strategy="linear"),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.1, 1.0, step_size_up=4),
    "cyclic-halving": lambda s, o: s.CyclicLR(
        o, [0.1, 0.2], [1.0, 2.0], step_size_up=4, step_size_down=3, mode="triangular2"),
    "cyclic-exponential": lambda s, o: s.CyclicLR(
        o, 0.1, 1.0, step_size_up=4, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "polynomial": lambda s, o: s.PolynomialLR(o, 10, 2.0),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 12), s.ConstantLR(o, 0.5, 3)], [4, 16]),
    "sequential-lambda": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9), s.LambdaLR(o, lambda e: 0.5 / (e + 1)), s.StepLR(o, 2)],
        [4, 10, 16]),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)]),
    "plateau": lambda s, o: s.ReduceLROnPlateau(o, patience=2, cooldown=1),
    "plateau-max": lambda s, o: s.ReduceLROnPlateau(o, "max", 0.5, 1, 0.05, "abs", 0, [0.01, 0.02]),
}


def run_schedule(name, optimizer="SGD", reload_at=None):
    """For 30 steps: both groups' rates and momenta (first betas), as one flat list."""
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    options = {"momentum": 0.9} if optimizer == "SGD" else {}

    def make():
        o = getattr(torch.optim, optimizer)([{"params": [first], "lr": 0.05}, {"params": [second]}], lr=0.3, **options)
        return o, SCHEDULES[name](lr_scheduler, o)

    o, schedule = make()
    metrics = random.Random(0)
    values = []
    for step in range(30):
        if step == reload_at:
            saved, saved_optimizer = schedule.state_dict(), o.state_dict()
            o, schedule = make()
            o.load_state_dict(saved_optimizer)
            schedule.load_state_dict(saved)
        for group in o.param_groups:
            values += [group["lr"], group["momentum"] if optimizer == "SGD" else group["betas"][0]]
        o.step()
        schedule.step(*([metrics.choice([1.0, 0.9, 0.8])] if name.startswith("plateau") else []))
    return values


class Samples(data.Dataset):
    """23 samples that show their index and what the three random generators of the process give."""

    def __len__(self):
        return 23

    def __getitem__(self, i):
        return {"i": i, "torch": torch.randint(0, 1000, (2,)), "numpy": np.random.randint(1000),
                "python": random.random()}


class Stream(data.IterableDataset):
    """17 numbers, dealt out to the workers."""

    def __iter__(self):
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter([torch.tensor([i]) for i in range(first, 17, step)])


LOADERS = {
    "shuffled": lambda: data.DataLoader(Samples(), batch_size=4, shuffle=True),
    "generator": lambda: data.DataLoader(
        Samples(), batch_size=4, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(3)),
    "two-workers": lambda: data.DataLoader(Samples(), batch_size=4, shuffle=True, num_workers=2),
    "persistent": lambda: data.DataLoader(
        Samples(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=3),
    "stream": lambda: data.DataLoader(Stream(), batch_size=2),
    "stream-two-workers": lambda: data.DataLoader(Stream(), batch_size=2, num_workers=2, drop_last=True),
    "replacement": lambda: data.DataLoader(
        range(23), sampler=data.RandomSampler(range(23), replacement=True, num_samples=70), batch_size=9),
    "many": lambda: data.DataLoader(range(23), sampler=data.RandomSampler(range(23), num_samples=50), batch_size=8),
    "weighted": lambda: data.DataLoader(range(9), sampler=data.WeightedRandomSampler(range(9), 5, False), batch_size=2),
    "subset": lambda: data.DataLoader(range(9), sampler=data.SubsetRandomSampler([3, 5, 7, 8]), batch_size=3),
    "distributed": lambda: data.DataLoader(range(23), sampler=data.DistributedSampler(range(23), 3, 1, seed=5)),
    "split": lambda: [list(part.indices) for part in data.random_split(range(10), [0.35, 0.35, 0.3])],
}


def run_loader(name):
    """Two passes from fixed seeds, then the next number of torch's generator: neither more nor less was drawn."""
    torch.manual_seed(7)
    np.random.seed(3)
    random.seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more workers than cores
        loader = LOADERS[name]()
        passes = [[_plain(batch) for batch in loader] for _ in range(2)]
    return {"passes": passes, "next": torch.randint(0, 10**6, (1,)).item()}


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
