"""Random numbers against PyTorch's: a recorded script of draws, the state's bytes, and what must hold for any seed."""
import copy
import json
import pathlib
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import random as torch_random
from torch._mt19937 import STATE_BYTES, TorchMT19937
from torch._ops_random import kept
from torch.random import Generator

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "random.npz")
INFO = json.loads(str(GOLDEN["info"]))
SEEDS = st.integers(-(2**63), 2**64 - 1)
# Error allowed, relative to max(1, |value|): a few units in the last place of each dtype.
CLOSE = {"float32": 1e-6, "float64": 1e-14, "float16": 2e-3, "bfloat16": 1.6e-2}


def _replay(engine: TorchMT19937, step: dict) -> np.ndarray:
    args = dict(step)
    op = args.pop("op")
    if op == "multinomial":
        args["weights"] = np.array(args["weights"], dtype=np.float32)
    if op == "bernoulli_each":
        args["p"] = np.array(args["p"], dtype=np.float64 if args.pop("dtype") == "float64" else np.float32)
    if args.pop("strided", False):
        args["contiguous"] = False
    if op == "random" and args.get("low") == -(2**63):
        op, args["high"] = "randint", 2**63
    return getattr(engine, op)(**args)


def test_bernoulli_compares_all_53_bits():
    seed = 7
    drawn = int(TorchMT19937(seed).uniform(1, "float64")[0] * 2**53)
    for above in (-1, 0, 1):
        assert TorchMT19937(seed).bernoulli(1, (drawn + above) * 2.0**-53)[0] == (above > 0)
    assert TorchMT19937(seed).bernoulli(1000, 1.0).all() and not TorchMT19937(seed).bernoulli(1000, 0.0).any()


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9999])
def test_dropout_that_is_drawn_later_takes_the_same_numbers(p):
    engine = torch_random.default_generator._engine
    engine.manual_seed(3)
    wanted = TorchMT19937(3)
    first = wanted.randint(0, 10, 5)
    np.testing.assert_array_equal(engine.randint(0, 10, 5), first)
    masks = [kept((n,), p) for n in (1, 311, 312, 313, 5000)]  # none is computed yet
    expected = [wanted.bernoulli(n, 1 - p) for n in (1, 311, 312, 313, 5000)]
    np.testing.assert_array_equal(engine.get_state(), wanted.get_state())
    for a, b in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    state = engine.get_state()
    kept((7,), p)
    engine.set_state(state)
    np.testing.assert_array_equal(engine.uniform(3), wanted.uniform(3))  # set back: that draw never was
    kept((7,), p)
    engine.manual_seed(3)
    np.testing.assert_array_equal(engine.randint(0, 10, 5), first)
    kept((7,), 0.3)
    wanted.manual_seed(3)
    wanted.randint(0, 10, 5)
    wanted.bernoulli(7, 0.7)
    np.testing.assert_array_equal(engine.normal(17), wanted.normal(17))


@pytest.mark.parametrize("which", range(len(INFO["seeds"])), ids=[f"seed{s}" for s in INFO["seeds"]])
def test_draws_equal_those_of_pytorch(which):
    engine = TorchMT19937(INFO["seeds"][which])
    for j, step in enumerate(INFO["steps"]):
        if f"{which}/{j}" not in GOLDEN:
            continue
        expected, got = GOLDEN[f"{which}/{j}"], _replay(engine, step)
        got = got[:: max(1, got.size // INFO["keep"])] if got.ndim == 1 else got
        assert got.shape == expected.shape, step
        computed = step["op"] in ("normal", "log_normal", "cauchy", "exponential")
        if not computed and (step["op"], step.get("dtype")) != ("uniform", "float64"):
            np.testing.assert_array_equal(got.astype(expected.dtype), expected, err_msg=str(step))
        elif got.size:
            assert got.dtype == expected.dtype
            a, b = got.astype(np.float64), expected.astype(np.float64)
            worst = (np.abs(a - b) / np.maximum(1, np.abs(b))).max()
            assert worst <= CLOSE[step["dtype"]], (step, worst)
    state, expected = engine.get_state(), GOLDEN[f"{which}/state"]
    differ = np.flatnonzero(state != expected)
    # The waiting normal is a float64 sine, which may differ in the last bit; every other byte is equal.
    assert set(differ) <= set(range(5024, 5032))
    np.testing.assert_allclose(state[5024:5032].view(np.float64), expected[5024:5032].view(np.float64), rtol=1e-14)


def test_the_numbers_everyone_knows_of_seed_0():
    engine = TorchMT19937(0)
    np.testing.assert_allclose(engine.uniform(3), [0.49625659, 0.76822180, 0.08847743], atol=1e-8)
    engine.manual_seed(0)
    np.testing.assert_allclose(engine.normal(3), [1.5409961, -0.2934289, -2.1787894], atol=1e-6)


def test_half_precision_normals_rarely_round_differently():
    engine, other, total = TorchMT19937(INFO["seeds"][0]), 0, 0
    for j, step in enumerate(INFO["steps"]):
        drawn = _replay(engine, step)
        if step["op"] == "normal" and step["dtype"] in ("float16", "bfloat16"):
            other += int((drawn[:: max(1, drawn.size // INFO["keep"])] != GOLDEN[f"0/{j}"]).sum())
            total += drawn.size
    assert total > 1000 and other < 0.01 * total


def test_the_state_of_pytorch_goes_on_where_pytorch_was():
    engine = TorchMT19937(123)
    engine.set_state(GOLDEN["0/state"])
    other = TorchMT19937(INFO["seeds"][0])
    for step in INFO["steps"]:
        _replay(other, step)
    assert engine.initial_seed() == INFO["seeds"][0]
    for draw in (lambda e: e.normal(3, "float64"), lambda e: e.uniform(5), lambda e: e.normal(20)):
        np.testing.assert_allclose(draw(engine), draw(other), rtol=1e-12)


# ---------------------------------------------------------------------- any seed


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, before=st.lists(st.integers(0, 700), max_size=4), serial=st.integers(0, 15))
def test_a_state_repeats_what_follows_it(seed, before, serial):
    engine = TorchMT19937(seed)
    for n in before:
        engine.uniform(n)
    engine.normal(serial)
    state = engine.get_state()
    assert state.dtype == np.uint8 and state.shape == (STATE_BYTES,) == (5056,)
    first = [engine.normal(1), engine.normal(40), engine.randint(0, 10, 9)]
    for again in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine), TorchMT19937(5)):
        again.set_state(state)
        np.testing.assert_array_equal(again.get_state(), state)
        for a, b in zip(first, [again.normal(1), again.normal(40), again.randint(0, 10, 9)], strict=True):
            np.testing.assert_array_equal(a, b)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_low_32_bits_of_a_seed_choose_the_numbers_and_all_64_are_remembered(seed):
    engine = TorchMT19937(seed)
    assert engine.initial_seed() == seed % 2**64
    np.testing.assert_array_equal(engine.uniform(4), TorchMT19937(seed % 2**32).uniform(4))


def test_a_new_seed_forgets_the_waiting_normal():
    engine = TorchMT19937(1)
    engine.normal(1)
    engine.manual_seed(1)
    np.testing.assert_array_equal(engine.get_state(), TorchMT19937(1).get_state())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, cut=st.integers(0, 40000), dtype=st.sampled_from(["float32", "float64", "float16", "bfloat16"]))
def test_uniform_values_do_not_depend_on_how_a_draw_is_cut(seed, cut, dtype):
    whole, parts = TorchMT19937(seed), TorchMT19937(seed)
    together = whole.uniform((200, 200), dtype, -1.0, 3.0)
    assert together.shape == (200, 200)
    apart = np.concatenate([parts.uniform(cut, dtype, -1.0, 3.0), parts.uniform(40000 - cut, dtype, -1.0, 3.0)])
    np.testing.assert_array_equal(together.reshape(-1), apart)
    np.testing.assert_array_equal(whole.get_state(), parts.get_state())
    assert together.min() >= -1 and together.max() < 3


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, bounds=st.lists(st.integers(-(2**63), 2**63), min_size=2, max_size=2, unique=True))
def test_integers_stay_in_their_range(seed, bounds):
    low, high = sorted(bounds)
    drawn = TorchMT19937(seed).randint(low, high, 50)
    assert drawn.dtype == np.int64
    assert low <= int(drawn.min()) and int(drawn.max()) < high


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n=st.integers(0, 300))
def test_a_permutation_has_every_number_once(seed, n):
    assert sorted(TorchMT19937(seed).randperm(n).tolist()) == list(range(n))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(16, 4000), st.sampled_from([0.0, -3.0, 0.5]), st.sampled_from([0.0, 0.2, 4.0]))
def test_mean_and_std_shift_and_scale_the_same_normals(seed, n, mean, std):
    standard = TorchMT19937(seed).normal(n).astype(np.float64)
    np.testing.assert_allclose(TorchMT19937(seed).normal(n, "float32", mean, std), standard * np.float32(std) + mean,
                               rtol=1e-6, atol=1e-6)


def test_distributions_have_their_moments():
    engine, n = TorchMT19937(7), 200_000
    for values, mean, var in (
        (engine.normal(n), 0, 1),
        (engine.normal(n, contiguous=False), 0, 1),
        (engine.uniform(n), 1 / 2, 1 / 12),
        (engine.exponential(n, rate=2.0), 1 / 2, 1 / 4),
        (engine.bernoulli(n, 0.1), 0.1, 0.09),
        (engine.geometric(n, 0.25), 4, 12),
        (np.log(engine.log_normal(n, "float64", 0.5, 0.3)), 0.5, 0.09),
        (engine.multinomial(np.array([1.0, 0.0, 3.0]), n, True), 1.5, 0.75),
    ):
        values = values.astype(np.float64)
        assert abs(values.mean() - mean) < 5 * (var / n) ** 0.5
        assert abs(values.var() / var - 1) < 0.05


def test_without_replacement_each_index_comes_once_and_weight_0_last():
    drawn = TorchMT19937(3).multinomial(np.array([[1.0, 0.0, 2.0, 5.0]] * 50), 4)
    assert (np.sort(drawn, axis=1) == np.arange(4)).all()
    assert (drawn[:, 3] == 1).all()
    assert len(set(drawn[:, 0].tolist())) > 1


def test_threads_share_an_engine_without_tearing_a_draw():
    engine, found = TorchMT19937(11), []

    def work():
        for _ in range(20):
            found.append(engine.normal(1000).tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = TorchMT19937(11)
    assert sorted(found) == sorted(alone.normal(1000).tobytes() for _ in range(80))


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "64 bits", lambda e: e.manual_seed(2**64)),
        (ValueError, "64 bits", lambda e: e.manual_seed(-(2**63) - 1)),
        (RuntimeError, "std=-1", lambda e: e.normal(3, std=-1)),
        (RuntimeError, "low=2, high=1", lambda e: e.uniform(3, low=2, high=1)),
        (RuntimeError, "float16", lambda e: e.uniform(3, "float16", 0, 1e6)),
        (RuntimeError, "low=3", lambda e: e.randint(3, 3, 2)),
        (RuntimeError, "uint8", lambda e: e.randint(0, 300, 2, "uint8")),
        (RuntimeError, "bool", lambda e: e.randint(0, 3, 2, "bool")),
        (RuntimeError, "float16", lambda e: e.randint(0, 5000, 2, "float16")),
        (NotImplementedError, "int32", lambda e: e.normal(3, "int32")),
        (NotImplementedError, "complex64", lambda e: e.uniform(3, "complex64")),
        (RuntimeError, "negative", lambda e: e.uniform((2, -1))),
        (RuntimeError, "n=-1", lambda e: e.randperm(-1)),
        (NotImplementedError, "limit", lambda e: e.randperm(2**32)),
        (RuntimeError, "p=1.5", lambda e: e.bernoulli(3, 1.5)),
        (RuntimeError, "probability", lambda e: e.bernoulli_each(np.array([0.5, np.nan]))),
        (RuntimeError, "rate=0", lambda e: e.exponential(3, rate=0)),
        (RuntimeError, "p=1", lambda e: e.geometric(3, 1)),
        (RuntimeError, "sigma=0", lambda e: e.cauchy(3, sigma=0)),
        (RuntimeError, "std=0", lambda e: e.log_normal(3, std=0)),
        (RuntimeError, "cannot draw 3 of 2", lambda e: e.multinomial(np.ones(2), 3)),
        (RuntimeError, "cannot draw 0", lambda e: e.multinomial(np.ones(2), 0)),
        (RuntimeError, "not all 0", lambda e: e.multinomial(np.zeros(2), 1)),
        (RuntimeError, "finite", lambda e: e.multinomial(np.array([1.0, -1.0]), 1)),
        (RuntimeError, "3 bytes", lambda e: e.set_state(np.zeros(3, np.uint8))),
        (TypeError, "float64", lambda e: e.set_state(np.zeros(5056))),
        (RuntimeError, "valid mt19937", lambda e: e.set_state(np.zeros(5056, np.uint8))),
        (RuntimeError, "valid mt19937", lambda e: e.set_state(np.full(5056, 255, np.uint8))),
    ],
)
def test_bad_input_is_named_and_draws_nothing(error, words, call):
    engine = TorchMT19937(2)
    before = engine.get_state()
    with pytest.raises(error, match=words):
        call(engine)
    np.testing.assert_array_equal(engine.get_state(), before)


# ---------------------------------------------------------------------- torch.random


def test_a_generator_counts_from_its_seed():
    generator = Generator("cuda:0")
    assert str(generator.device) == "cuda:0" and Generator(None).device.type == "cpu"
    assert generator.initial_seed() == 67280421310721
    assert generator.manual_seed(-1) is generator
    assert generator.initial_seed() == 2**64 - 1
    assert generator.seed() == generator.initial_seed() != 2**64 - 1
    np.testing.assert_array_equal(generator.manual_seed(4)._engine.normal(30), TorchMT19937(4).normal(30))


def test_generators_of_both_devices_draw_the_same():
    a, b = Generator("cpu").manual_seed(9), Generator("cuda").manual_seed(9)
    np.testing.assert_array_equal(a._engine.uniform(5), b._engine.uniform(5))


def test_a_generators_state_is_a_uint8_tensor():
    generator = Generator().manual_seed(0)
    state = generator.get_state()
    assert state.shape == (5056,) and str(state.dtype) == "torch.uint8"
    first = generator._engine.uniform(5)
    assert generator.set_state(state) is None
    np.testing.assert_array_equal(generator._engine.uniform(5), first)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_a_copied_generator_goes_its_own_way(make):
    generator = Generator("cuda").manual_seed(6)
    generator._engine.normal(1)
    twin = make(generator)
    assert repr(twin) == repr(generator)
    np.testing.assert_array_equal(twin._engine.normal(3), generator._engine.normal(3))
    twin._engine.uniform(1)
    assert (twin._engine.get_state() != generator._engine.get_state()).any()


@pytest.mark.parametrize("seed", [1.5, "3", None, True])
def test_a_generator_takes_only_integers_as_seed(seed):
    with pytest.raises(TypeError, match="manual_seed"):
        Generator().manual_seed(seed)


def test_numpy_integers_are_seeds_too():
    assert Generator().manual_seed(np.int64(3)).initial_seed() == 3


@pytest.mark.parametrize("device", ["meta", "toaster"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(RuntimeError, match=device):
        Generator(device)


def test_set_state_wants_a_byte_tensor():
    with pytest.raises(TypeError, match="uint8"):
        Generator().set_state([1, 2])


def test_module_functions_move_the_default_generator():
    default = torch_random.default_generator
    with torch_random.fork_rng():
        assert torch_random.manual_seed(17) is default
        assert torch_random.initial_seed() == default.initial_seed() == 17
        state = torch_random.get_rng_state()
        first = default._engine.normal(3)
        torch_random.set_rng_state(state)
        np.testing.assert_array_equal(default._engine.normal(3), first)
        assert torch_random.seed() == torch_random.initial_seed()


def test_fork_rng_puts_the_default_generator_back_even_after_an_error():
    engine = torch_random.default_generator._engine
    before = engine.get_state()
    with pytest.raises(KeyError), torch_random.fork_rng(devices=[0]):
        torch_random.manual_seed(1)
        engine.normal(5)
        raise KeyError
    np.testing.assert_array_equal(engine.get_state(), before)
    with torch_random.fork_rng(enabled=False):
        engine.uniform(5)
    assert (engine.get_state() != before).any()
    engine.set_state(before)
