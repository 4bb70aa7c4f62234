"""I3D: its size, its padding, the size of its maps, its resize, and how a file of weights is told."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ddmi.base.errors import UserError
from ddmi.metrics.features.i3d import FILE, I3D, MaxPool
from ddmi.metrics.features.weights import padded


def randomised(network):
    """Random weights that keep the variance from layer to layer, and normalisation that does something."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim == 5:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            value.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture(scope="module")
def network():
    return randomised(I3D())


@pytest.fixture(scope="module")
def clip():
    return torch.rand(1, 3, 9, 24, 450, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def scores(network, clip):
    return network(clip)


def test_the_number_of_parameters(network):
    """Counted by hand from table 1 of GoogLeNet, every filter inflated to a cube, 5x5 ones replaced by 3x3x3."""
    blocks = {  # width of the map; 1x1, before 3x3, 3x3, before "5x5", "5x5", after the pool
        "3b": (192, 64, 96, 128, 16, 32, 32),
        "3c": (256, 128, 128, 192, 32, 96, 64),
        "4b": (480, 192, 96, 208, 16, 48, 64),
        "4c": (512, 160, 112, 224, 24, 64, 64),
        "4d": (512, 128, 128, 256, 24, 64, 64),
        "4e": (512, 112, 144, 288, 32, 64, 64),
        "4f": (528, 256, 160, 320, 32, 128, 128),
        "5b": (832, 256, 160, 320, 32, 128, 128),
        "5c": (832, 384, 192, 384, 48, 128, 128),
    }
    filters = 3 * 64 * 7**3 + 64 * 64 + 64 * 192 * 27
    norms = 64 + 64 + 192
    for inputs, one, narrow, three, slim, five, pooled in blocks.values():
        filters += inputs * (one + narrow + slim + pooled) + 27 * (narrow * three + slim * five)
        norms += one + narrow + three + slim + five + pooled
    assert filters + 2 * norms == 12_287_264
    assert sum(p.numel() for p in network.parameters()) == 12_287_264 + 1024 * 400 + 400
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Conv3d_2c_3x3.bn.running_mean"] == (192,)
    assert shapes["Mixed_3b.b0.conv3d.weight"] == (64, 192, 1, 1, 1)
    assert shapes["Mixed_4f.b1b.conv3d.weight"] == (320, 160, 3, 3, 3)
    assert shapes["Mixed_5b.b2a.conv3d.weight"] == (32, 832, 1, 1, 1)
    assert shapes["Mixed_5b.b2b.conv3d.weight"] == (128, 32, 3, 3, 3)
    assert shapes["Mixed_5c.b3b.bn.weight"] == (128,)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1) and shapes["logits.conv3d.bias"] == (400,)
    assert sum(name.endswith("conv3d.weight") for name in shapes) == 3 + 9 * 6 + 1
    assert "Conv3d_1a_7x7.conv3d.bias" not in shapes
    assert {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d)} == {1e-3}


def test_the_size_of_the_maps(network):
    """16 frames of 224 cells: 8 of 112, 56, 28; 4 of 14; 2 of 7 (Carreira and Zisserman 2017, fig. 3)."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, tuple(y.shape[1:])))
        for name, module in network.named_children()
        if "Pool" not in name
    ]
    try:
        assert network(torch.zeros(1, 3, 16, 224, 224)).shape == (1, 400)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == {
        "Conv3d_1a_7x7": (64, 8, 112, 112),
        "Conv3d_2b_1x1": (64, 8, 56, 56),
        "Conv3d_2c_3x3": (192, 8, 56, 56),
        "Mixed_3b": (256, 8, 28, 28),
        "Mixed_3c": (480, 8, 28, 28),
        "Mixed_4b": (512, 4, 14, 14),
        "Mixed_4c": (512, 4, 14, 14),
        "Mixed_4d": (512, 4, 14, 14),
        "Mixed_4e": (528, 4, 14, 14),
        "Mixed_4f": (832, 4, 14, 14),
        "Mixed_5b": (832, 2, 7, 7),
        "Mixed_5c": (1024, 2, 7, 7),
        "logits": (400, 1, 1, 1),
    }


def test_padding_puts_the_odd_cell_at_the_end():
    """ceil(n / s) boxes of k cells need (ceil(n / s) - 1) s + k - n more: 1 of 4 cells, 2 of 5, 5 of 224."""
    x = torch.arange(1.0, 5).view(1, 1, 4, 1, 1)
    assert padded(x, (3, 1, 1), (2, 1, 1)).flatten().tolist() == [1, 2, 3, 4, 0]
    assert padded(x, (3, 1, 1), (1, 1, 1)).flatten().tolist() == [0, 1, 2, 3, 4, 0]
    assert padded(x, (2, 1, 1), (2, 1, 1)).flatten().tolist() == [1, 2, 3, 4]
    assert padded(x[:, :, :3], (2, 1, 1), (2, 1, 1)).flatten().tolist() == [1, 2, 3, 0]
    five = torch.arange(1.0, 6).view(1, 1, 1, 1, 5)
    assert padded(five, (1, 1, 3), (1, 1, 2)).flatten().tolist() == [0, 1, 2, 3, 4, 5, 0]
    ones = padded(torch.ones(1, 1, 16, 224, 9), (7, 7, 7), (2, 2, 2))[0, 0]
    assert ones.shape == (16 + 5, 224 + 5, 9 + 6)  # time, height, width
    inside = ones.nonzero()
    assert inside.min(dim=0).values.tolist() == [2, 2, 3]
    assert inside.max(dim=0).values.tolist() == [17, 225, 11]


def test_pools_take_the_largest_inside():
    x = torch.tensor([1.0, 5, 2, 3, 4, 0]).view(1, 1, 1, 1, 6)
    assert MaxPool((1, 1, 3), (1, 1, 2))(x).flatten().tolist() == [5, 4, 4]  # (1 5 2) (2 3 4) (4 0 -)
    assert MaxPool((1, 1, 3), (1, 1, 1))(x).flatten().tolist() == [5, 5, 5, 4, 4, 4]
    assert MaxPool((2, 2, 2), (2, 2, 2))(x).flatten().tolist() == [5, 3, 4]
    assert MaxPool((3, 3, 3), (2, 2, 2))(x.transpose(2, 4)).shape == (1, 1, 3, 1, 1)


def layer(module, x, stride=1):
    """A convolution, normalised by the stored statistics, and ReLU, written out."""
    k = module.conv3d.weight.shape[2]
    total = [(-(-n // stride) - 1) * stride + k - n for n in x.shape[:1:-1]]
    x = F.pad(x, [side for t in total for side in (t // 2, t - t // 2)])
    y, norm = F.conv3d(x, module.conv3d.weight, stride=stride), module.bn
    scale = norm.weight / (norm.running_var + 1e-3).sqrt()
    mean, scale, bias = (v[:, None, None, None] for v in (norm.running_mean, scale, norm.bias))
    return ((y - mean) * scale + bias).clamp_min(0)


def test_the_first_layer_and_the_first_block_written_out(network):
    x = torch.randn(1, 3, 6, 11, 8)
    expected = layer(network.Conv3d_1a_7x7, x, stride=2)
    assert expected.shape == (1, 64, 3, 6, 4)
    torch.testing.assert_close(network.Conv3d_1a_7x7(x), expected, atol=1e-4, rtol=1e-4)
    block, x = network.Mixed_3b, torch.rand(1, 192, 3, 5, 4)
    around = F.max_pool3d(x, 3, stride=1, padding=1)
    branches = [
        layer(block.b0, x),
        layer(block.b1b, layer(block.b1a, x)),
        layer(block.b2b, layer(block.b2a, x)),
        layer(block.b3b, around),
    ]
    torch.testing.assert_close(block(x), torch.cat(branches, dim=1), atol=1e-4, rtol=1e-4)


def test_scores_are_means_over_time_without_a_softmax(network):
    """Of 32 frames the last map has 4; pairs of them are pooled, 3 in all, and the scores of these averaged."""
    last = []
    hook = network.Mixed_5c.register_forward_hook(lambda _, __, y: last.append(y))
    try:
        found = network(torch.rand(1, 3, 32, 16, 16) * 2 - 1)
    finally:
        hook.remove()
    cells = last[0].mean(dim=(3, 4))
    assert cells.shape == (1, 1024, 4)
    pairs = (cells[..., :3] + cells[..., 1:]) / 2
    weight = network.logits.conv3d.weight.flatten(1)
    expected = (weight @ pairs + network.logits.conv3d.bias[:, None]).mean(dim=2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_scores_are_repeatable_and_frozen(network, clip, scores):
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert scores.shape == (1, network.num_features) and scores.std() > 0.01 and network.name == "i3d"
    assert torch.equal(network(clip), scores)
    with pytest.raises(UserError, match="at least 9 frames, not 8"):
        network(clip[:, :, :8])


def test_frames_are_rounded_to_8_bit_and_then_resized(network, clip, scores):
    """The scores are those of frames once written to files, read, and resized by hand: larger and smaller."""
    grey = ((clip + 1) * 127.5).round()
    at_size = []
    hook = network.Conv3d_1a_7x7.register_forward_pre_hook(lambda _, inputs: at_size.append(inputs[0]))
    try:
        torch.testing.assert_close(network(grey / 127.5 - 1), scores, atol=1e-4, rtol=1e-4)
    finally:
        hook.remove()
    (found,) = at_size
    assert found.shape == (1, 3, 9, 224, 224)

    def places(cells):  # cell centres of 224 in the frame's cells, kept inside: the two nearest, and their weights
        where = ((torch.arange(224) + 0.5) * cells / 224 - 0.5).clamp(0, cells - 1)
        low = where.floor().long()
        return low, (low + 1).clamp_max(cells - 1), where - low

    top, bottom, v = places(24)
    left, right, u = places(450)
    rows = grey[:, :, :, top] * (1 - v[:, None]) + grey[:, :, :, bottom] * v[:, None]
    expected = (rows[..., left] * (1 - u) + rows[..., right] * u) / 127.5 - 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth"])
def test_a_file_of_weights_gives_the_same_network(network, tmp_path, kind):
    """Batch counters are not needed, and tensors beside the network's own do no harm."""
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    weights["other"] = torch.zeros(3)
    path = tmp_path / f"network.{kind}"
    (save_file if kind == "safetensors" else torch.save)(weights, path)
    again = I3D.load(path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in weights.items() if name != "other")


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_with_code_is_not_opened(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "i3d_torchscript.pt")
    with pytest.raises(UserError, match="TorchScript archive, which holds code") as error:
        I3D.load(tmp_path / "i3d_torchscript.pt")
    assert FILE in one_line(error) and "state_dict()" in str(error.value)


def test_files_that_are_something_else(network, tmp_path):
    weights = network.state_dict()
    path = tmp_path / "weights.safetensors"
    logits = {"logits.conv3d.weight": torch.zeros(600, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(600)}
    save_file(weights | logits, path)
    with pytest.raises(UserError, match=r"not I3D of Kinetics-400: 2 tensors.*first logits\.conv3d\.weight") as error:
        I3D.load(path)
    assert FILE in one_line(error)
    save_file({name: value for name, value in weights.items() if name != "Mixed_4c.b1a.bn.running_var"}, path)
    with pytest.raises(UserError, match=r"1 tensors missing .*first Mixed_4c\.b1a\.bn\.running_var"):
        I3D.load(path)
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    for name, told in (("weights.pt", "more than plain tensors, or is damaged"), ("weights.bin", r"\.safetensors, ")):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(UserError, match=told) as error:
            I3D.load(tmp_path / name)
        one_line(error)


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"i3d_pretrained_400\.pt.*VideoGPT.*nothing is downloaded") as error:
        I3D.load(tmp_path / "any.pt")
    one_line(error)
