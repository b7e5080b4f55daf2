"""Pictures of a run: they hold what was recorded."""

import pytest
import torch

from referee_core.plots import PALETTE, filmstrip, frames, gradient_view, history_plot, to_image, to_tensor
from referee_core.record import LOSS, NORM, Frame, History, Step

RED, GREEN, BLUE, GREY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.5)


def flat(colour, size=8):
    return torch.tensor(colour)[:, None, None].expand(1, 3, size, size)


def history_of(losses, **curves):
    """A history of a run with one picture: its losses (None while the referee rests) and other curves' values."""
    history = History(every=2)
    for i, loss in enumerate(losses):
        step = Step(i, len(losses), torch.zeros(1, 4, 2, 2), lambda: flat(GREY))
        for name, value in {"loss": loss, **{name: values[i] for name, values in curves.items()}}.items():
            if value is not None:
                step.add(LOSS, name, value)
        history.add(step)
    history.finish(flat(GREY))
    return history


def share(picture, colour, tolerance=0.02):
    """How many pixels of a picture have a colour, and a mask of them."""
    near = (picture - torch.tensor(colour)[:, None, None]).abs().amax(0) < tolerance
    return int(near.sum()), near


def assert_is_picture(picture):
    assert picture.ndim == 3 and picture.shape[0] == 3 and picture.dtype == torch.float32
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.01


@pytest.mark.parametrize(
    "losses",
    [[3.0, 2.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0], [1.5], [0.0], [1.0, None, None], [1e-9, 1e9], [-1.0, 1.0]],
    ids=["falling", "flat", "zero", "one step", "one step of zero", "tail", "wide", "negative"],
)
def test_any_history_can_be_drawn(losses):
    assert_is_picture(history_plot(history_of(losses)))
    assert_is_picture(filmstrip(history_of(losses)))


def test_frames_are_the_recorded_pictures_and_the_result():
    history = History(frames=[Frame(0, flat(RED), {}), Frame(10, flat(GREEN), {})], final=flat(BLUE))
    assert torch.equal(frames(history), torch.cat([flat(RED), flat(GREEN), flat(BLUE)]))


def test_a_run_without_referee_can_be_drawn():
    history = history_of([None, None, None])
    history.curves[NORM] = {"SDS": [torch.tensor([v]) for v in (3.0, 2.0, 1.0)]}
    assert_is_picture(history_plot(history))


def test_a_rising_curve_rises_from_left_to_right():
    picture = history_plot(history_of([1.0, 10.0, 100.0, 1000.0]))
    _, line = share(picture[:, : picture.shape[1] // 2], [c / 255 for c in PALETTE[0]])
    rows, columns = line.nonzero().double().T
    assert len(rows) > 100
    slope = ((rows - rows.mean()) * (columns - columns.mean())).sum()
    correlation = slope / ((rows - rows.mean()).norm() * (columns - columns.mean()).norm())
    assert correlation < -0.99  # rows count downwards; a geometric series is a straight line on a logarithmic scale


def test_a_curve_ends_where_its_values_end():
    picture = history_plot(history_of([1.0, 2.0, 3.0, None, None, None, None, None, None]))
    _, line = share(picture[:, : picture.shape[1] // 2], [c / 255 for c in PALETTE[0]])
    columns = line.any(dim=0).nonzero()
    assert columns.max() < 0.4 * picture.shape[2]


def test_every_curve_is_drawn_however_many():
    names = [f"{i}.itm" for i in range(1, 9)]
    values = {name: [1.0 + i, 2.0 + i, 1.5 + i] for i, name in enumerate(names)}
    whole = history_plot(history_of([1.0, 50.0, 1.0], **values))
    for name in names:
        turned = values | {name: values[name][1:] + values[name][:1]}
        assert not torch.equal(history_plot(history_of([1.0, 50.0, 1.0], **turned)), whole), f"{name} is not drawn"


def test_marked_steps_are_dashed_lines():
    plain, marked = history_of([3.0, 2.0, 1.0, 2.0]), history_of([3.0, 2.0, 1.0, 2.0])
    marked.marks = [1]
    difference = (history_plot(plain) - history_plot(marked)).abs().amax(0) > 0.1
    columns = difference.any(dim=0).nonzero()
    assert columns.max() - columns.min() <= 1
    assert float(columns.double().mean()) == pytest.approx(64 + (960 - 16 - 64) / 3, abs=2)  # a third of the way


def test_each_picture_of_a_batch_has_its_own_plot():
    history = history_of([1.0, 2.0])
    history.curves[LOSS] = {"loss": [torch.tensor([1.0, 5.0]), torch.tensor([2.0, 1.0])]}
    first, second, beyond = (history_plot(history, image=i) for i in (0, 1, 7))
    assert not torch.equal(first, second) and torch.equal(second, beyond)


def test_a_filmstrip_holds_the_recorded_frames_and_the_result():
    history = History()
    history.frames = [Frame(i, flat(colour), {}) for i, colour in enumerate((RED, GREEN, RED))]
    history.finish(flat(BLUE))
    strip = filmstrip(history, columns=3, size=32)
    assert_is_picture(strip)
    assert [share(strip, c)[0] for c in (RED, GREEN, BLUE)] == pytest.approx([2 * 32**2, 32**2, 32**2], rel=0.02)
    columns = [share(strip, c)[1].nonzero().double().mean(0) for c in (GREEN, BLUE)]
    assert columns[0][1] > columns[1][1] and columns[0][0] < columns[1][0]  # the result begins the second row


def test_a_filmstrip_keeps_the_aspect_ratio():
    history = History()
    history.finish(torch.tensor(RED)[:, None, None].expand(1, 3, 8, 16))
    assert share(filmstrip(history, size=32), RED)[0] == pytest.approx(32 * 16, rel=0.02)


def test_gradients_are_pictures_around_grey():
    """One positive element of the first channel is a red square; the rest is grey."""
    gradient = torch.zeros(1, 4, 4, 4)
    gradient[0, 0, 1, 2] = 1e-5
    gradient[0, 3] = 7.0  # the fourth channel is not shown
    history = History()
    history.frames = [
        Frame(0, flat(GREY), {"referee": gradient, "SDS": -gradient}),
        Frame(1, flat(GREY), {"SDS": gradient}),
    ]
    view = gradient_view(history, size=32)
    assert_is_picture(view)
    tile = 32**2
    (reds, red), (cyans, cyan) = share(view, (1.0, 0.5, 0.5)), share(view, (0.0, 0.5, 0.5))
    assert (reds, cyans) == (2 * tile / 16, tile / 16)
    assert share(view, GREY)[0] == pytest.approx(3 * tile * 15 / 16, rel=0.05)  # labels have a few grey pixels
    red, cyan = red.nonzero(), cyan.nonzero()
    assert red[:, 0].min() < cyan[:, 0].min(), "the referee's gradients stand above those of score distillation"


def test_a_history_without_gradients_says_so():
    with pytest.raises(ValueError, match="no gradients"):
        gradient_view(history_of([1.0, 2.0]))


def test_a_gradient_of_zero_is_grey():
    history = History()
    history.frames = [Frame(0, flat(GREY), {"referee": torch.zeros(1, 4, 4, 4)})]
    assert share(gradient_view(history, size=64), GREY)[0] == pytest.approx(64**2, rel=0.02)


def test_pictures_survive_the_way_through_pillow():
    picture = torch.randint(0, 256, (3, 5, 7)) / 255
    torch.testing.assert_close(to_tensor(to_image(picture)), picture)
    assert to_tensor(to_image(torch.tensor([-1.0, 2.0, 1.0]).view(3, 1, 1))).flatten().tolist() == [0.0, 1.0, 1.0]
