"""A field is a function: deterministic, the same in any order and any chunking, and differentiable."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch

import ddmi.field
from ddmi import Field
from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError, WorkError
from ddmi.base.storage import load_metadata, save_tensors
from ddmi.field import fields_of
from ddmi.model.autoencoder import D2CVAE
from ddmi.rendering.grid import to_pixels


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return tiny.awake(D2CVAE(tiny.AUTOENCODER, tiny.image()), 0.2).eval()


def decoded(autoencoder, count=1, seed=2):
    z = torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return fields_of(autoencoder.decode({"xy": z}), tiny.image())


@pytest.fixture
def field(autoencoder):
    return decoded(autoencoder)[0]


def points(count, seed=0):
    return 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1


def test_the_same_question_has_the_same_answer_bit_for_bit(field):
    """No per-point noise: the trap of the released code."""
    at = points(500)
    assert torch.equal(field(at), field(at))
    torch.manual_seed(7)
    first = field(at)
    torch.manual_seed(8)
    assert torch.equal(field(at), first)


def test_the_answer_is_not_constant(field):
    assert float(field(points(500)).std(dim=0).min()) > 0.05


def test_the_order_of_the_points_does_not_matter(field):
    at = points(300)
    order = torch.randperm(300)
    assert torch.allclose(
        field(at[order]), field(at)[order], atol=1e-5
    )  # the last rows of a product may round otherwise


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_chunks_are_the_whole(field, monkeypatch, chunk):
    at = points(200)
    whole = field(at)
    monkeypatch.setattr(ddmi.field, "ROWS", chunk)
    assert torch.allclose(field(at), whole, atol=1e-5)


def test_autocast_around_a_field_changes_nothing(field):
    at = points(20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(field(at), field(at.clone()))
        inside = field(at)
    assert torch.equal(inside, field(at))


def test_no_points_no_values(field):
    assert field(torch.zeros(0, 2)).shape == (0, 3)


def test_a_batch_is_its_fields(autoencoder):
    fields = decoded(autoencoder, count=3)
    z = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    at = points(50)
    with torch.no_grad():
        together = autoencoder.decode({"xy": z})(at[None], torch.ones(1))
    for one, values in zip(fields, together, strict=True):
        assert torch.allclose(one(at), values, atol=1e-5)


def test_a_picture_is_the_function_at_its_cell_centres(field):
    for size in (8, 16, 5):
        asked = field(grid((size, size)), torch.tensor([field.domain.period((size, size), (-1, -1, 1, 1))]))
        assert tiny.alike(field.render(size), to_pixels(asked).reshape(size, size, 3))
    drawn = np.array(field.render((6, 10)))
    assert drawn.shape == (6, 10, 3)
    s = torch.tensor([field.domain.period((6, 10), (-1, -1, 1, 1))])
    assert tiny.alike(drawn, to_pixels(field(grid((6, 10)), s)).reshape(6, 10, 3))


def test_a_window_is_the_crop_of_the_whole_picture(field):
    """Also in what scale injection is told: the period is that of the whole picture."""
    whole = np.array(field.render(32))
    window = np.array(field.render((8, 16), window=(-0.5, 0.0, 0.5, 0.5)))
    assert tiny.alike(window, whole[16:24, 8:24])


def test_the_sampling_period_changes_the_answer(field):
    at = points(50)
    assert not torch.allclose(field(at, torch.tensor([0.5])), field(at, torch.tensor([1.0])), atol=1e-4)
    assert torch.equal(field(at), field(at, torch.tensor([1.0])))  # 1: the resolution that the encoder saw


def test_gradients_reach_the_coordinates(field):
    """Where two difference quotients agree, the field is smooth there, and the gradient agrees with them.

    Elsewhere the point lies beside a kink: the border of a cell, or the corner of a rectifier.
    """
    at = points(400).requires_grad_()
    field(at).sum().backward()
    for k in range(2):

        def slope(step, k=k):
            shift = torch.zeros(2).index_fill(0, torch.tensor(k), step)
            return ((field(at.detach() + shift) - field(at.detach() - shift)) / (2 * step)).sum(dim=1)

        wide, narrow = slope(1e-3), slope(4e-4)
        smooth = (wide - narrow).abs() < 0.01 + 0.01 * narrow.abs()
        error = (narrow - at.grad[:, k]).abs() - 0.05 * narrow.abs()
        assert float(smooth.float().mean()) > 0.5
        assert float((error[smooth] < 0.02).float().mean()) > 0.95
    assert float(at.grad.abs().mean()) > 0.05


def test_no_graph_is_built_unless_it_is_wanted(field):
    assert not field(points(3)).requires_grad
    with torch.no_grad():
        assert not field(points(3).requires_grad_()).requires_grad


class Slow(Field):
    """A field whose thread is put aside after each look at the prepared weights, so that another comes between."""

    @property
    def _prepared(self):
        found = self._found
        time.sleep(1e-3)
        return found

    @_prepared.setter
    def _prepared(self, value):
        self._found = value


def test_threads_share_a_field(field):
    """Two threads at different sampling periods: the weights prepared for one are never used for the other."""
    shared = Slow(field._signal, field.domain)
    at, periods = points(3), [torch.tensor([0.25]), torch.tensor([1.0])]
    right = [field(at, period) for period in periods]
    assert not torch.equal(*right)

    def wrong(k):
        return sum(not torch.equal(shared(at, periods[k]), right[k]) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong, (0, 1))) == [0, 0]


def test_a_file_gives_the_same_function(field, tmp_path):
    path = tmp_path / "deep" / "one.safetensors"
    field.save(path)
    again = Field.load(path)
    at = points(100)
    assert torch.equal(again(at), field(at))
    assert torch.equal(again(at, torch.tensor([0.5])), field(at, torch.tensor([0.5])))
    assert np.array_equal(np.array(again.render((9, 7))), np.array(field.render((9, 7))))
    assert again.domain == field.domain and repr(again) == repr(field)
    assert [p.name for p in path.parent.iterdir()] == ["one.safetensors"]


def test_what_is_no_field_is_refused(field, tmp_path):
    with pytest.raises(UserError, match=r"nothing.safetensors is missing"):
        Field.load(tmp_path / "nothing.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_tensors({"a": torch.zeros(2)}, foreign)
    with pytest.raises(UserError, match=r"foreign.safetensors is not a saved Field"):
        Field.load(foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(UserError, match=r"text.safetensors is damaged or no safetensors file"):
        Field.load(text)
    field.save(tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut.safetensors is damaged"):
        Field.load(tmp_path / "cut.safetensors")


def test_a_flipped_bit_in_a_file_is_noticed(field, tmp_path):
    path = tmp_path / "one.safetensors"
    field.save(path)
    whole = path.read_bytes()
    for k in range(30):
        place = (11 + 1013 * k) % len(whole)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << k % 8)]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"one.safetensors is (damaged|not a saved Field)"):
            Field.load(path)


@pytest.mark.parametrize(
    ("about", "tensors"),
    [
        ("{", {}),
        ("[" * 100_000, {}),
        ("{}", {}),
        (None, {}),
        (None, {"fields.0.xy": torch.zeros(1, 16, 4, 4)}),
        (None, {"fields.9999999999999.xy": torch.zeros(1, 16, 4, 4)}),
        (None, {"fields.0.xy": torch.zeros(3)}),
        (None, {"elsewhere": torch.zeros(3)}),
    ],
)
def test_a_file_of_a_stranger_is_refused_in_one_line(field, tmp_path, about, tensors):
    path = tmp_path / "strange.safetensors"
    field.save(path)
    save_tensors(tensors, path, {"ddmi.field": load_metadata(path)["ddmi.field"] if about is None else about})
    with pytest.raises(UserError, match=r"strange.safetensors") as error:
        Field.load(path)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_named(field, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot write .*one.safetensors"):
        field.save(tmp_path / "file" / "one.safetensors")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(4, 3), r"coordinates are \(..., 2\), not \(4, 3\)"),
        (0.5, r"coordinates are \(..., 2\), not \(\)"),
        ([[0.0, 0.0], [0.0]], "coordinates must be numbers"),
        (["left", "right"], "coordinates must be numbers"),
    ],
)
def test_wrong_coordinates_are_refused(field, given, message):
    with pytest.raises(UserError, match=message):
        field(given)


def test_coordinates_are_lists_arrays_and_tensors_of_any_leading_shape(field):
    at = points(12)
    values = field(at)
    for given in (at.tolist(), at.numpy(), at.double().numpy(), at.double()):
        assert torch.equal(field(given), values)
    assert torch.equal(field(at.reshape(3, 4, 2)), values.reshape(3, 4, 3))
    assert torch.allclose(field(at[5]), values[5], atol=1e-5) and field(at[5]).shape == (3,)
    assert torch.equal(field(at, [0.5]), field(at, torch.tensor([0.5])))


def test_points_outside_have_the_value_of_the_nearest_inside(field):
    at = 3 * points(50)
    assert torch.equal(field(at), field(at.clamp(-1, 1))) and (at.abs() > 1).any()


def test_half_precision_is_close_and_does_not_touch_the_original(field):
    half = field.to(dtype=torch.bfloat16)
    at = points(200)
    assert half.dtype == torch.bfloat16 and field.dtype == torch.float32
    values = half(at)
    assert values.dtype == torch.float32
    assert float((values - field(at)).abs().max()) < 0.1 * float(field(at).abs().max())


def test_scales_can_be_looked_at_alone(field):
    at = points(50)
    assert field.scales == 3
    assert torch.equal(field.isolated(0, 1, 2)(at), field(at))
    assert not torch.allclose(field.isolated(0)(at), field.isolated(2)(at), atol=1e-3)
    nothing = field.isolated()(at)
    assert torch.allclose(nothing, nothing[:1].expand(50, 3), atol=1e-6)
