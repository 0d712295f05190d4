"""`nn.Parameter`."""

import copy
import pickle

import pytest
import torch
from torch import nn


def test_a_parameter_is_a_tensor_that_requires_gradients():
    parameter = nn.Parameter(torch.ones(2, 3))
    assert isinstance(parameter, torch.Tensor) and isinstance(parameter, nn.Parameter)
    assert not isinstance(torch.ones(1), nn.Parameter)
    assert parameter.requires_grad and parameter.is_leaf and parameter.grad is None
    assert nn.Parameter().shape == (0,)
    assert not nn.Parameter(torch.ones(2), requires_grad=False).requires_grad


def test_integers_can_be_parameters_only_without_gradient():
    assert nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False).dtype is torch.int64
    with pytest.raises(RuntimeError, match="can require gradients"):
        nn.Parameter(torch.ones(2, dtype=torch.int64))


def test_results_of_operations_are_plain_tensors_and_gradients_arrive():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    result = parameter * 3
    assert type(result) is torch.Tensor
    result.sum().backward()
    assert parameter.grad.tolist() == [3.0, 3.0]


def test_made_from_a_result_it_is_cut_off_from_the_tape():
    source = torch.ones(2, requires_grad=True)
    assert nn.Parameter(source * 2).grad_fn is None


def test_deepcopy_is_independent_and_keeps_the_flag():
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    copied = copy.deepcopy(frozen)
    assert isinstance(copied, nn.Parameter) and not copied.requires_grad
    copied.zero_()
    assert frozen.tolist() == [1.0, 1.0]
    twice = copy.deepcopy([frozen, frozen])
    assert twice[0] is twice[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_pickling_keeps_values_type_and_flag(dtype):
    parameter = nn.Parameter(torch.tensor([[0.5, -2.0]], dtype=dtype), requires_grad=False)
    back = pickle.loads(pickle.dumps(parameter))
    assert isinstance(back, nn.Parameter) and back.dtype is dtype and not back.requires_grad
    assert back.float().tolist() == [[0.5, -2.0]]


def test_pickling_keeps_attributes_that_were_set():
    parameter = nn.Parameter(torch.ones(1))
    parameter.tag = "x"
    assert pickle.loads(pickle.dumps(parameter)).tag == "x"


def test_instance_dict_holds_only_what_users_set():
    # accelerate's init_empty_weights calls type(p)(p.to(device), **p.__dict__)
    parameter = nn.Parameter(torch.ones(1))
    (parameter * 2).sum().backward()
    assert dict(parameter.__dict__) == {}
    parameter.tag = 5
    assert dict(parameter.__dict__) == {"tag": 5}


def test_repr_says_that_it_is_a_parameter():
    assert repr(nn.Parameter(torch.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
