"""`nn.Module`: registration, attributes, names, conversion, modes, copies and printing."""

import copy
import pickle

import pytest
import torch
from torch import nn


class Net(nn.Module):
    """A bit of everything; at module level so that it pickles."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.tied = self.first
        self.scale = nn.Parameter(torch.ones(4))
        self.register_parameter("absent", None)
        self.register_buffer("table", torch.arange(3))
        self.register_buffer("cache", torch.ones(2), persistent=False)
        self.plain = 3

    def forward(self, x):
        return self.body(self.norm(self.first(x))) * self.scale


PARAMETERS = ["scale", "first.weight", "first.bias", "norm.weight", "norm.bias", "body.0.weight", "body.0.bias"]


def test_names_come_in_order_of_registration_and_shared_ones_once():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == PARAMETERS
    assert len(list(net.parameters())) == len(PARAMETERS)
    duplicated = [name for name, _ in net.named_parameters(remove_duplicate=False)]
    assert duplicated == [*PARAMETERS, "tied.weight", "tied.bias"]
    assert [name for name, _ in net.named_parameters("x", recurse=False)] == ["x.scale"]
    buffers = ["table", "cache", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert [name for name, _ in net.named_buffers()] == buffers
    assert [name for name, _ in net.named_children()] == ["first", "norm", "body"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "norm", "body", "body.0", "body.1"]
    assert "tied" in [name for name, _ in net.named_modules(remove_duplicate=False)]
    assert next(iter(net.modules())) is net and len(list(net.children())) == 3


def test_registries_are_the_dictionaries_that_libraries_write_to():
    net = Net()
    net._parameters["scale"] = nn.Parameter(torch.zeros(4))
    assert net.scale.sum().item() == 0
    net._buffers["table"] = torch.ones(1)
    assert net.table.tolist() == [1.0]
    removed = net._modules.pop("body")
    assert isinstance(removed, nn.Sequential) and not hasattr(net, "body")
    assert net._non_persistent_buffers_set == {"cache"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", torch.ones(4), r"as parameter 'scale' \(torch.nn.Parameter or None expected\)"),
        ("first", 3, r"cannot assign 'int' as child module 'first' \(torch.nn.Module or None expected\)"),
        ("table", "x", "cannot assign 'str' as buffer 'table'"),
    ],
)
def test_a_registered_name_takes_only_its_own_kind(name, value, message):
    net = Net()
    with pytest.raises(TypeError, match=message):
        setattr(net, name, value)
    setattr(net, name, None)
    assert getattr(net, name) is None and name in {**net._parameters, **net._modules, **net._buffers}


def test_assigning_another_kind_of_registered_object_moves_the_name():
    net = Net()
    net.plain = nn.ReLU()
    assert "plain" in net._modules and "plain" not in net.__dict__
    net.plain = nn.Parameter(torch.ones(1))
    assert "plain" in net._parameters and "plain" not in net._modules
    net.cache = nn.ReLU()
    assert "cache" not in net._buffers and not net._non_persistent_buffers_set


def test_deleting():
    net = Net()
    for name in ("scale", "cache", "first", "plain"):
        delattr(net, name)
        assert not hasattr(net, name)
    assert not net._non_persistent_buffers_set
    with pytest.raises(AttributeError):
        del net.scale


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n: n.register_parameter("a.b", None), KeyError, 'parameter name can\'t contain "."'),
        (lambda n: n.register_parameter("", None), KeyError, "parameter name can't be empty string"),
        (lambda n: n.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
        (lambda n: n.register_parameter(3, None), TypeError, "parameter name should be a string. Got int"),
        (lambda n: n.register_parameter("q", torch.ones(1)), TypeError, r"torch.nn.Parameter or None required"),
        (lambda n: n.register_buffer("a.b", None), KeyError, 'buffer name can\'t contain "."'),
        (lambda n: n.register_buffer("x", 3), TypeError, "cannot assign 'int' object to buffer 'x'"),
        (lambda n: n.add_module("a.b", None), KeyError, 'module name can\'t contain ".", got: a.b'),
        (lambda n: n.add_module("x", 3), TypeError, "int is not a Module subclass"),
        (lambda n: n.register_module("training", nn.ReLU()), KeyError, "attribute 'training' already exists"),
        (lambda n: n.get_submodule("body.q"), AttributeError, "Sequential has no attribute `q`"),
        (lambda n: n.get_submodule("body.0.weight"), AttributeError, "`weight` is not an nn.Module"),
        (lambda n: n.get_parameter("body.0"), AttributeError, "`0` is not an nn.Parameter"),
        (lambda n: n.get_buffer("first.weight"), AttributeError, "`weight` is not a buffer"),
        (lambda n: n.nothing, AttributeError, "'Net' object has no attribute 'nothing'"),
        (lambda n: n.train(1), ValueError, "training mode is expected to be boolean"),
        (lambda n: n.to(torch.int32), TypeError, "only accepts floating point or complex dtypes"),
        (lambda n: n.to(bogus=1), TypeError, "bogus"),
        (lambda n: nn.Module(a=3), TypeError, "unexpected keyword argument 'a'"),
        (lambda n: nn.Module(3), TypeError, "takes 1 positional argument but 2 were given"),
        (lambda n: nn.Module()(3), NotImplementedError, 'missing the required "forward" function'),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error) as caught:
        call(Net())
    plain = message.replace("\\", "")
    assert plain in str(caught.value).replace("\\'", "'")


@pytest.mark.parametrize("value", [nn.Parameter(torch.ones(1)), nn.ReLU()])
def test_registering_before_init_says_so(value):
    class Early(nn.Module):
        def __init__(self):
            self.x = value

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()


def test_lookup_by_dotted_name():
    net = Net()
    assert net.get_submodule("body.0") is net.body[0] and net.get_submodule("") is net
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_buffer("norm.running_mean") is net.norm.running_mean


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda n: n.half(), torch.float16),
        (lambda n: n.bfloat16(), torch.bfloat16),
        (lambda n: n.double(), torch.float64),
        (lambda n: n.double().float(), torch.float32),
        (lambda n: n.to(torch.float64), torch.float64),
        (lambda n: n.to("cpu", torch.float16), torch.float16),
        (lambda n: n.to(device=torch.device("cpu"), dtype=torch.float16, non_blocking=True), torch.float16),
        (lambda n: n.to(torch.zeros(1, dtype=torch.bfloat16)), torch.bfloat16),
        (lambda n: n.to("cpu"), torch.float32),
        (lambda n: n.cpu(), torch.float32),
    ],
)
def test_conversion_keeps_parameters_and_spares_integers(convert, dtype):
    net = Net()
    before = list(net.parameters())
    net.first.weight.grad = torch.ones(4, 3)
    assert convert(net) is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {dtype} and net.cache.dtype is dtype
    assert net.table.dtype is torch.int64 and net.norm.num_batches_tracked.dtype is torch.int64
    assert net.first.weight.grad.dtype is dtype and net.first.weight.grad.sum().item() == 12
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())
    assert net.tied.weight is net.first.weight


def test_conversion_keeps_values():
    net = Net()
    weight = net.first.weight.detach().clone()
    assert torch.equal(net.double().float().first.weight, weight)


def test_meta_and_back():
    net = Net().to("meta")
    assert {p.device.type for p in net.parameters()} == {"meta"}
    net.to_empty(device="cpu")
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in net.parameters())


def test_layers_take_device_and_dtype():
    for layer in (
        nn.Linear(2, 3, device="meta", dtype=torch.float16),
        nn.Conv2d(2, 3, 3, device="meta", dtype=torch.float16),
        nn.GroupNorm(num_groups=1, num_channels=2, device="meta", dtype=torch.float16),
        nn.LayerNorm(2, device="meta", dtype=torch.float16),
        nn.Embedding(2, 3, device="meta", dtype=torch.float16),
        nn.MultiheadAttention(4, 2, device="meta", dtype=torch.float16),
    ):
        assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.float16)}


def test_modes_and_freezing_reach_the_children():
    net = Net()
    assert net.eval() is net and not net.body[0].training
    assert net.train().body[0].training
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    net = Net()
    net(torch.ones(2, 3)).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad(set_to_none=set_to_none)
    if set_to_none:
        assert all(p.grad is None for p in net.parameters())
    else:
        assert all(p.grad.abs().sum().item() == 0 for p in net.parameters())


def test_apply_visits_children_first():
    seen = []
    net = Net()
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "BatchNorm1d", "Linear", "ReLU", "Sequential", "Net"]


def test_deepcopy_is_independent_and_keeps_ties():
    net = Net()
    other = copy.deepcopy(net)
    assert other.tied is other.first and other.first.weight is not net.first.weight
    assert torch.equal(other.first.weight, net.first.weight)
    with torch.no_grad():
        other.first.weight.zero_()
        other.table.zero_()
    assert net.first.weight.abs().sum().item() > 0 and net.table.sum().item() == 3
    assert not next(iter(other.first.parameters())).grad_fn


def test_pickling():
    net = Net()
    back = pickle.loads(pickle.dumps(net.body))
    assert torch.equal(back[0].weight, net.body[0].weight) and back[0].weight.requires_grad
    x = torch.ones(2, 4)
    assert torch.equal(back(x), net.body(x))


def test_old_pickles_without_newer_fields_load():
    layer = nn.Linear(2, 2)
    newer = ("_forward_hooks_with_kwargs", "_state_dict_pre_hooks", "_load_state_dict_post_hooks")
    state = {key: value for key, value in layer.__dict__.items() if key not in newer}
    old = nn.Linear.__new__(nn.Linear)
    old.__setstate__(state)
    assert torch.equal(old(torch.ones(1, 2)), layer(torch.ones(1, 2)))


def test_printing():
    assert repr(nn.Linear(2, 3, bias=False)) == "Linear(in_features=2, out_features=3, bias=False)"
    assert repr(nn.Conv2d(2, 4, 3, padding=1, groups=2)) == (
        "Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2)"
    )
    assert repr(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))) == (
        "Sequential(\n  (0): ReLU()\n  (1): Sequential(\n    (0): Tanh()\n  )\n)"
    )
    runs = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()])
    assert repr(runs) == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n)"
    assert repr(nn.Module()) == "Module()"


def test_dir_lists_registered_names():
    assert {"first", "scale", "table", "plain", "forward"} <= set(dir(Net()))
    assert not any(name.isdigit() for name in dir(nn.ModuleList([nn.ReLU()])))


def test_call_passes_arguments_and_result_through():
    class Echo(nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    assert Echo()(1, b=2) == ((1,), {"b": 2})
    echo = Echo()
    echo.forward = lambda x: x + 1  # accelerate replaces forward on the instance
    assert echo(1) == 2


def test_an_error_in_forward_leaves_calls_working():
    class Breaks(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    net = nn.Sequential(nn.Linear(2, 2), Breaks())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            net(torch.ones(1, 2))
    with torch.no_grad():
        assert net[0](torch.ones(1, 2)).shape == (1, 2)


def test_only_the_outermost_call_without_gradients_starts_the_computation(monkeypatch):
    flushed = []
    monkeypatch.setattr(torch._engine, "flush", flushed.append)
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    x = torch.ones(1, 2)
    with torch.no_grad():
        output = net(x)
    assert len(flushed) == 1 and flushed[0] is output
    net(x)
    assert len(flushed) == 1

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x):
            with torch.no_grad():
                return self.inner(x)

    Frozen()(x)  # as activation checkpointing does: without gradients, inside a call with them
    assert len(flushed) == 1
