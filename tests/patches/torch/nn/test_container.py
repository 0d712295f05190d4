"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.just(0)),
        st.tuples(st.just("insert"), st.integers(0, 6)),
        st.tuples(st.just("delete"), st.integers(-6, 6)),
        st.tuples(st.just("set"), st.integers(-6, 6)),
        st.tuples(st.just("pop"), st.integers(-6, 6)),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.Sequential])
@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_behaves_as_a_list_with_names_without_gaps(kind, operations):
    model, real = [], kind()
    for operation, place in operations:
        new = nn.Identity()
        if operation == "append":
            model.append(new)
            real.append(new)
        elif operation == "insert" and place <= len(model):
            model.insert(place, new)
            real.insert(place, new)
        elif operation in ("delete", "set", "pop"):
            try:
                model[place]
            except IndexError:
                with pytest.raises(IndexError):
                    real[place]
                continue
            if operation == "delete":
                del model[place]
                del real[place]
            elif operation == "pop":
                assert model.pop(place) is real.pop(place)
            else:
                model[place] = new
                real[place] = new
        assert list(real) == model and len(real) == len(model)
        assert list(real._modules) == [str(i) for i in range(len(model))]


def test_sequential_calls_in_order_and_keeps_names():
    net = nn.Sequential(OrderedDict(twice=_Times(2), add=_Plus(1)))
    assert net(3) == 7 and net.twice is net[0]
    assert list(net[1:]._modules) == ["add"] and isinstance(net[1:], nn.Sequential)
    assert (net + nn.Sequential(_Times(10)))(3) == 70
    assert (net * 2)(3) == 15
    net += nn.Sequential(_Plus(5))
    assert net(3) == 12
    with pytest.raises(ValueError, match="only objects of Sequential"):
        net + 3


class _Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class _Plus(_Times):
    def forward(self, x):
        return x + self.factor


def test_module_list():
    modules = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    modules += [nn.GELU()]
    modules.extend(nn.ModuleList([nn.SiLU()]))
    assert [type(m).__name__ for m in modules] == ["ReLU", "Tanh", "GELU", "SiLU"]
    assert isinstance(modules[1:3], nn.ModuleList) and len(modules[::2]) == 2
    assert len(modules + [nn.ReLU()]) == 5
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        nn.ModuleList([3])
    with pytest.raises(TypeError, match="should be called with an iterable"):
        modules.extend(3)
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        modules(1)


def test_module_dict():
    modules = nn.ModuleDict({"b": nn.ReLU(), "a": nn.Tanh()})
    modules.update([("c", nn.GELU())])
    modules["d"] = nn.Linear(1, 2)
    assert list(modules) == list(modules.keys()) == ["b", "a", "c", "d"] and "a" in modules and len(modules) == 4
    assert [name for name, _ in modules.named_parameters()] == ["d.weight", "d.bias"]
    assert isinstance(modules.pop("b"), nn.ReLU) and "b" not in modules
    del modules["a"]
    assert [key for key, _ in modules.items()] == ["c", "d"] and len(list(modules.values())) == 2
    with pytest.raises(KeyError):
        modules["nope"]
    with pytest.raises(KeyError, match="attribute 'keys' already exists"):
        modules["keys"] = nn.ReLU()
    with pytest.raises(ValueError, match="has length 3; 2 is required"):
        modules.update([(1, 2, 3)])
    with pytest.raises(TypeError, match="iterable of key/value pairs"):
        modules.update(3)
    modules.clear()
    assert len(modules) == 0


def test_parameter_list():
    parameters = nn.ParameterList([torch.zeros(1), nn.Parameter(torch.ones(2))])
    assert all(isinstance(p, nn.Parameter) for p in parameters) and len(parameters) == 2
    parameters.append(torch.ones(3))
    parameters[0] = torch.full((4,), 2.0)
    assert [p.numel() for p in parameters] == [4, 2, 3] and parameters[-1].numel() == 3
    assert list(parameters.state_dict()) == ["0", "1", "2"]
    assert len(parameters[1:]) == 2
    with pytest.raises(IndexError):
        parameters[3]
    with pytest.raises(RuntimeError, match="should not be called"):
        parameters(1)


def test_parameter_dict():
    parameters = nn.ParameterDict({"b": torch.zeros(1), "a": nn.Parameter(torch.ones(2), requires_grad=False)})
    assert list(parameters) == ["a", "b"]  # plain dictionaries are sorted
    assert isinstance(parameters["b"], nn.Parameter) and not parameters["a"].requires_grad
    parameters["c"] = torch.ones(3)
    assert list(parameters.state_dict()) == ["a", "b", "c"] and "c" in parameters and len(parameters) == 3
    assert [key for key, _ in parameters.items()] == list(parameters.keys())
    assert parameters.pop("c").numel() == 3 and parameters.get("c", 7) == 7
    del parameters["a"]
    assert [name for name, _ in parameters.named_parameters()] == ["b"]
    assert parameters.setdefault("z", torch.ones(1)) is parameters["z"]
    assert list(parameters.copy()) == ["b", "z"]
    with pytest.raises(TypeError, match="not a string"):
        nn.ParameterDict()[3] = torch.ones(1)
    parameters.clear()
    assert len(parameters) == 0 and not list(parameters.parameters())
