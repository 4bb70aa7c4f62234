"""The voxel classifier and its file."""

import json

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.base.storage import load_metadata, load_tensors, save_tensors
from ddmi.metrics.features.voxels import FORMAT, VoxelClassifier, VoxelClassifierConfig, load_classifier, save

CLASSES = ("chair", "table", "lamp")


def classifier(**settings) -> VoxelClassifier:
    return VoxelClassifier(VoxelClassifierConfig(classes=CLASSES, **settings))


def grids(count: int, n: int = 32) -> torch.Tensor:
    return torch.rand(count, n, n, n, generator=torch.Generator().manual_seed(1)) < 0.2


def test_one_logit_a_class_and_a_small_network():
    model = classifier()
    assert model(grids(2)[:, None].float()).shape == (2, 3)
    assert sum(p.numel() for p in model.parameters()) < 1_000_000


def test_a_grid_is_judged_alone():
    model, x = classifier().eval(), grids(5)[:, None].float()
    with torch.no_grad():
        torch.testing.assert_close(model(x)[3:4], model(x[3:4]), atol=1e-5, rtol=1e-5)


def test_every_axis_counts():
    """A judge that pools too early would not tell a shape from its turned copy."""
    model, x = tiny.awake(classifier()).eval(), torch.zeros(1, 1, 32, 32, 32)
    x[:, :, 4:12, 10:28, 14:18] = 1
    with torch.no_grad():
        first = model(x)
        for axes in ((2, 3), (3, 4), (2, 4)):
            assert not torch.allclose(first, model(x.transpose(*axes)), atol=1e-4)


def test_every_parameter_learns():
    model = classifier()
    torch.nn.functional.cross_entropy(model(grids(4)[:, None].float()), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_predictions_are_the_largest_logits_of_any_type_of_grid():
    model = tiny.awake(classifier(resolution=16, widths=(8, 16)), 0.2)
    x = grids(300, 16)
    with torch.no_grad():
        expected = model(x[-44:, None].float()).argmax(dim=1)
    for given in (x, x.to(torch.uint8), x.float() * 3):
        assert torch.equal(model.predict(given)[-44:], expected)
    assert model.training and model.predict(x[:0]).shape == (0,)
    with pytest.raises(UserError, match="16x16x16 cells, not at"):
        model.predict(grids(1, 32))


def test_the_file_gives_the_same_classifier_back(tmp_path):
    model = tiny.awake(classifier(resolution=16, widths=(8, 16)))
    model.accuracy = 0.875
    save(model, tmp_path / "new" / "judge.safetensors")
    again, classes = load_classifier(tmp_path / "new" / "judge.safetensors")
    assert classes == list(CLASSES) and again.config == model.config and again.accuracy == 0.875
    assert tiny.equal(model, again)
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    save(classifier(), tmp_path / "unmeasured")
    assert load_classifier(tmp_path / "unmeasured")[0].accuracy is None


def test_what_is_no_classifier_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.safetensors is missing"):
        load_classifier(tmp_path / "nothing.safetensors")
    (tmp_path / "text").write_text("no tensors at all")
    with pytest.raises(UserError, match="text is damaged or no safetensors file"):
        load_classifier(tmp_path / "text")
    save_tensors({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(UserError, match="other holds no voxel classifier"):
        load_classifier(tmp_path / "other")
    save_tensors({"x": torch.zeros(2)}, tmp_path / "half", {FORMAT: json.dumps({"config": {"classes": [1, 2]}})})
    with pytest.raises(UserError, match="half is a damaged voxel classifier"):
        load_classifier(tmp_path / "half")
    save(classifier(), tmp_path / "good")
    tensors = load_tensors(tmp_path / "good")
    tensors.pop("readout.bias")
    save_tensors(tensors, tmp_path / "lacking", load_metadata(tmp_path / "good"))
    with pytest.raises(UserError, match=r"lacking lacks the tensor readout\.bias"):
        load_classifier(tmp_path / "lacking")


def test_one_class_is_no_choice():
    with pytest.raises(UserError, match="two classes or more"):
        VoxelClassifierConfig(classes=("chair",))
