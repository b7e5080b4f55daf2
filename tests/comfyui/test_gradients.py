"""Leaving inference mode: gradients pass through weights born in it, no memory is copied, everything is put back."""

import importlib.util

import pytest
import torch

from scripts.server import PACK

spec = importlib.util.spec_from_file_location("bridge_gradients", PACK / "nodes" / "bridge" / "gradients.py")
gradients = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gradients)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x):
        return self.second(torch.sin(self.first(x) * self.shift))


@pytest.fixture
def born_in_inference_mode():
    with torch.inference_mode():
        return Net()


def tensors(net: Net) -> list:
    return [net.first.weight, net.first.bias, net.second.weight, net.second.bias, net.shift]


def test_the_problem_exists(born_in_inference_mode):
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="[Ii]nference"):
        born_in_inference_mode(x).sum().backward()


def test_gradients_pass_over_the_same_storage(born_in_inference_mode):
    net = born_in_inference_mode
    pointers = [t.data_ptr() for t in tensors(net)]
    clean = Net()
    clean.load_state_dict({k: v.clone() for k, v in net.state_dict().items()})
    x = torch.randn(2, 4)
    with torch.inference_mode(), gradients.gradients_through(net):
        assert [t.data_ptr() for t in tensors(net)] == pointers
        assert net.first.weight is net.second.weight
        z = x.clone().requires_grad_()
        net(z).square().sum().backward()
        assert all(p.grad is None for p in net.parameters())
    expected = x.clone().requires_grad_()
    clean(expected).square().sum().backward()
    torch.testing.assert_close(z.grad, expected.grad, rtol=0, atol=0)


@pytest.mark.parametrize("interrupt", [None, ValueError, KeyboardInterrupt])
def test_everything_is_put_back(born_in_inference_mode, interrupt):
    ordinary = Net()
    nets = (born_in_inference_mode, ordinary)
    before = [tensors(n) for n in nets]
    flags = [t.requires_grad for n in nets for t in tensors(n)]
    with torch.inference_mode():
        try:
            with gradients.gradients_through(*nets):
                assert not torch.is_inference_mode_enabled()
                assert not any(p.requires_grad for n in nets for p in n.parameters())
                if interrupt is not None:
                    raise interrupt
        except (ValueError, KeyboardInterrupt):
            pass
        assert torch.is_inference_mode_enabled()
    assert all(a is b for n, was in zip(nets, before, strict=True) for a, b in zip(tensors(n), was, strict=True))
    assert [t.requires_grad for n in nets for t in tensors(n)] == flags
