"""Leaving inference mode: gradients pass through tensors made in it, no memory is copied, everything is put back."""

import importlib.util
import sys
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from scripts.server import PACK

FILE = PACK / "nodes" / "bridge" / "gradients" / "stand_ins.py"
spec = importlib.util.spec_from_file_location(
    "bridge_gradients", PACK / "nodes" / "bridge" / "gradients" / "stand_ins.py"
)
gradients = importlib.util.module_from_spec(spec)
sys.modules["bridge_gradients"] = gradients  # where torch.compile looks for it
spec.loader.exec_module(gradients)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x):
        return self.second(torch.sin(self.first(x) * self.shift))


@pytest.fixture(params=["as it was", "moved outside inference mode"])
def born_in_inference_mode(request):
    with torch.inference_mode():
        net = Net()
    if request.param != "as it was":  # as a node that trains does with ComfyUI's models
        for t in {id(t): t for t in tensors(net)}.values():
            t.data = t.detach().clone()
            assert not t.is_inference()
    return net


def tensors(net: Net) -> list:
    return [net.first.weight, net.first.bias, net.second.weight, net.second.bias, net.shift]


def clean(net: Net) -> Net:
    copy = Net()
    copy.load_state_dict({k: v.clone() for k, v in net.state_dict().items()})
    return copy


def stand_ins(net: torch.nn.Module, precision: torch.dtype | None = None) -> gradients.StandIns:
    patcher = SimpleNamespace(model=net, is_dynamic=lambda: False, patches={}, load_device=torch.device("cpu"))
    return gradients.StandIns(patcher, precision)


@contextmanager
def standing_in(*nets: torch.nn.Module):
    with ExitStack() as undo, torch.inference_mode(False):
        for net in nets:
            stand_ins(net).put(undo)
        yield


def slope(f, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(f(leaf).square().sum(), leaf)[0]


def test_the_problem_exists(born_in_inference_mode):
    with pytest.raises(RuntimeError, match="[Ii]nference"):
        slope(born_in_inference_mode, torch.randn(2, 4))


def test_gradients_pass_over_the_same_storage(born_in_inference_mode):
    net, x = born_in_inference_mode, torch.randn(2, 4)
    pointers, expected = [t.data_ptr() for t in tensors(net)], slope(clean(net), x)
    with torch.inference_mode(), standing_in(net):
        assert [t.data_ptr() for t in tensors(net)] == pointers
        assert net.first.weight is net.second.weight
        found = slope(net, x)
        assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("interrupt", [None, ValueError, KeyboardInterrupt])
def test_everything_is_put_back(born_in_inference_mode, interrupt):
    ordinary = Net()
    nets = (born_in_inference_mode, ordinary)
    before = [tensors(n) for n in nets]
    flags = [t.requires_grad for n in nets for t in tensors(n)]
    with torch.inference_mode():
        try:
            with standing_in(*nets):
                assert not torch.is_inference_mode_enabled()
                assert not any(p.requires_grad for n in nets for p in n.parameters())
                if interrupt is not None:
                    raise interrupt
        except (ValueError, KeyboardInterrupt):
            pass
        assert torch.is_inference_mode_enabled()
    assert all(a is b for n, was in zip(nets, before, strict=True) for a, b in zip(tensors(n), was, strict=True))
    assert [t.requires_grad for n in nets for t in tensors(n)] == flags


def test_what_was_loaded_in_the_middle_stays(born_in_inference_mode):
    net, before = born_in_inference_mode, born_in_inference_mode.first.bias
    with standing_in(net):
        with torch.inference_mode():
            net.first.weight = loaded = torch.nn.Parameter(torch.randn(4, 4))
    assert net.first.weight is loaded and net.first.bias is before


def test_a_copy_has_the_precision_asked_for_and_is_made_once():
    with torch.inference_mode():
        net = Net().half()
    x, made = torch.randn(2, 4), stand_ins(net, torch.float32)
    expected = slope(clean(net).float(), x)
    bias = net.first.bias
    with torch.inference_mode(False), ExitStack() as undo:
        made.put(undo)
        first = net.first.bias
        torch.testing.assert_close(slope(net, x), expected, rtol=0, atol=0)
        undo.close()
        assert net.first.bias is bias
        made.put(undo)
        assert net.first.bias is first
        undo.close()
        with torch.inference_mode():
            net.first.bias = torch.nn.Parameter(torch.ones(4).half())
        made.put(undo)
        torch.testing.assert_close(net.first.bias, torch.ones(4), check_dtype=True)
    assert made.bytes == 4 * (16 + 4 + 4)


def hidden_tensors() -> dict:
    """Functions on a latent whose tensors no module has registered."""
    with torch.inference_mode():
        scale, net, plain = torch.rand(4) + 1, Net(), Net()
        plain.first.weight = None
        plain.weight = torch.randn(4, 4)
    plain.first.forward = lambda x: torch.nn.functional.linear(x, weight=plain.weight)
    return {
        "a closure": lambda x: (x * scale).sin(),
        "the left operand": lambda x: scale / (x + 10),
        "a list": lambda x: torch.einsum("c,bc->bc", [scale, x.sin()]),
        "a module nobody lists": net,
        "a plain attribute": plain.first,
        "in place": lambda x: (2 * x).mul_(scale).sin(),
        "a view": lambda x: x[:, :2].sin() * scale[::2],
        "checkpointed": lambda x: checkpoint(
            lambda y: (y * scale).sin(),
            x,
            use_reentrant=False,
            context_fn=lambda: (ExitStack(), gradients.OrdinaryTensors()),
        ),
    }


@pytest.mark.parametrize("name", hidden_tensors())
def test_gradients_pass_by_hidden_inference_tensors(name):
    f, x = hidden_tensors()[name], torch.rand(2, 4)
    with pytest.raises(RuntimeError, match="[Ii]nference"):
        slope(f, x)
    with gradients.OrdinaryTensors():
        found = slope(f, x)
        h = 1e-3
        with torch.no_grad():
            ones = torch.eye(8).view(8, 2, 4)
            numeric = [(f(x + h * e).square().sum() - f(x - h * e).square().sum()) / (2 * h) for e in ones]
    torch.testing.assert_close(found.flatten(), torch.stack(numeric), rtol=1e-2, atol=2e-3)


def test_inference_mode_inside_is_left_alone():
    with gradients.OrdinaryTensors(), torch.inference_mode():
        weight = torch.ones(3)
        assert weight.add_(1) is weight and (weight * 2).is_inference()


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_is_compiled_without_a_break(born_in_inference_mode):
    net, x = born_in_inference_mode, torch.randn(2, 4)
    expected = slope(clean(net), x)
    torch._dynamo.reset()
    with standing_in(net), gradients.OrdinaryTensors():
        found = slope(torch.compile(net, backend="aot_eager", fullgraph=True), x)
    torch.testing.assert_close(found, expected)
