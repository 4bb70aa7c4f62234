"""Inception-v3 of FID: its size, its pooling at the border, its resize, and how a file of weights is told."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ddmi.base.errors import UserError
from ddmi.metrics import features
from ddmi.metrics.features.efficientnet import EfficientNetLite0
from ddmi.metrics.features.inception import AVERAGE, FILE, HALVE, LARGEST, InceptionV3


def randomised(network):
    """Random weights that keep the variance from layer to layer, and normalisation that does something."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bn.bias", "running_mean")):
            value.normal_(0, 0.3, generator=generator)
    return network


@pytest.fixture(scope="module")
def network():
    return randomised(InceptionV3())


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 24, 450, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def pooled(network, picture):
    return network(picture)


def test_the_number_of_parameters(network):
    """23,834,568 are known of the 1000-class network without its auxiliary head; 8 more classes have 2049 each."""
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_834_568 + 8 * 2049
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_5b.branch1x1.conv.weight"] == (64, 192, 1, 1)
    assert shapes["Mixed_5d.branch_pool.conv.weight"] == (64, 288, 1, 1)
    assert shapes["Mixed_6a.branch3x3dbl_3.conv.weight"] == (96, 96, 3, 3)
    assert shapes["Mixed_6c.branch7x7_2.conv.weight"] == (160, 160, 1, 7)
    assert shapes["Mixed_6e.branch7x7dbl_2.conv.weight"] == (192, 192, 7, 1)
    assert shapes["Mixed_7a.branch7x7x3_4.conv.weight"] == (192, 192, 3, 3)
    assert shapes["Mixed_7c.branch3x3dbl_3b.bn.running_var"] == (384,)
    assert shapes["fc.weight"] == (1008, 2048)
    assert sum(name.endswith("conv.weight") for name in shapes) == 94
    assert {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}


def test_the_size_of_the_maps(network):
    """299 cells on a side become 147, 73, 35, 17 and 8 (Szegedy et al. 2016, table 1)."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, tuple(y.shape[1:])))
        for name, module in network.named_children()
        if name != "fc" and "pool" not in name
    ]
    try:
        network(torch.zeros(1, 3, 299, 299))
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == {
        "Conv2d_1a_3x3": (32, 149, 149),
        "Conv2d_2a_3x3": (32, 147, 147),
        "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_3b_1x1": (80, 73, 73),
        "Conv2d_4a_3x3": (192, 71, 71),
        "Mixed_5b": (256, 35, 35),
        "Mixed_5c": (288, 35, 35),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17),
        **{f"Mixed_6{letter}": (768, 17, 17) for letter in "bcde"},
        "Mixed_7a": (1280, 8, 8),
        "Mixed_7b": (2048, 8, 8),
        "Mixed_7c": (2048, 8, 8),
    }


def test_pooling_at_the_border_counts_the_cells_inside():
    x = torch.arange(1.0, 10.0).view(1, 1, 3, 3)  # 1 2 3 / 4 5 6 / 7 8 9
    corner, side = (1 + 2 + 4 + 5) / 4, (1 + 2 + 3 + 4 + 5 + 6) / 6
    average = AVERAGE(x)[0, 0]
    assert average[0].tolist() == [corner, side, (2 + 3 + 5 + 6) / 4] and average[1, 1] == 5
    assert LARGEST(-x)[0, 0].tolist() == [[-1, -1, -2], [-1, -1, -2], [-4, -4, -5]]
    assert HALVE(x)[0, 0].tolist() == [[9.0]] and HALVE(torch.zeros(1, 1, 35, 35)).shape[-1] == 17


def test_which_block_pools_how(network):
    pools = {name: module.pool for name, module in network.named_children() if name.startswith("Mixed")}
    assert {name for name, pool in pools.items() if pool is HALVE} == {"Mixed_6a", "Mixed_7a"}
    assert [name for name, pool in pools.items() if pool is LARGEST] == ["Mixed_7c"]
    assert sum(pool is AVERAGE for pool in pools.values()) == 8


def test_the_first_block_written_out(network):
    """Mixed_5b: its branches, their order, and that each convolution is followed by normalisation and ReLU."""
    block = network.Mixed_5b
    x = torch.randn(1, 192, 9, 7)

    def layer(name, x):
        module = getattr(block, name)
        rows, columns = module.conv.weight.shape[-2:]
        y = F.conv2d(x, module.conv.weight, padding=(rows // 2, columns // 2))
        norm = module.bn
        scale = norm.weight / (norm.running_var + 1e-3).sqrt()
        return ((y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).clamp_min(0)

    ones = F.conv2d(torch.ones(1, 1, 9, 7), torch.ones(1, 1, 3, 3), padding=1)
    average = F.conv2d(x, torch.ones(192, 1, 3, 3), padding=1, groups=192) / ones
    expected = [
        layer("branch1x1", x),
        layer("branch5x5_2", layer("branch5x5_1", x)),
        layer("branch3x3dbl_3", layer("branch3x3dbl_2", layer("branch3x3dbl_1", x))),
        layer("branch_pool", average),
    ]
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_the_last_block_forks_and_takes_the_maximum(network):
    """Mixed_7c: a row beside a column, in the order a, b; and the maximum before the last branch."""
    block = network.Mixed_7c
    x = torch.randn(1, 2048, 4, 5)
    three, double = block.branch3x3_1(x), block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    expected = [
        block.branch1x1(x),
        block.branch3x3_2a(three),
        block.branch3x3_2b(three),
        block.branch3x3dbl_3a(double),
        block.branch3x3dbl_3b(double),
        block.branch_pool(F.max_pool2d(x, 3, 1, 1)),
    ]
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1))
    assert block.branch3x3_2a.conv.kernel_size == (1, 3) and block.branch3x3_2b.conv.kernel_size == (3, 1)


def test_features_are_pooled_repeatable_and_frozen(network, picture, pooled):
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert pooled.shape == (1, network.num_features) and pooled.std() > 0.1
    assert torch.equal(network(picture), pooled)
    assert isinstance(network, features.FeatureNetwork) and network.fid and network.name == "inception-v3"


def test_pictures_are_rounded_to_8_bit_and_then_resized(network, picture, pooled):
    """The features are those of the picture once written to a file, read, and resized by hand: larger and smaller."""
    grey = ((picture + 1) * 127.5).round()
    at_size, last = [], []
    hooks = [
        network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: at_size.append(inputs[0])),
        network.Mixed_7c.register_forward_hook(lambda _, __, y: last.append(y)),
    ]
    try:
        torch.testing.assert_close(network(grey / 127.5 - 1), pooled, atol=1e-3, rtol=1e-4)
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(pooled, last[0].mean(dim=(2, 3)), atol=1e-3, rtol=1e-4)  # pool3: mean of 8x8 cells
    (found,) = at_size
    assert found.shape == (1, 3, 299, 299) and found.min() >= -1 and found.max() <= 1

    def places(cells):  # cell centres of 299 in the picture's cells, kept inside: the two nearest, and their weights
        where = ((torch.arange(299) + 0.5) * cells / 299 - 0.5).clamp(0, cells - 1)
        low = where.floor().long()
        return low, (low + 1).clamp_max(cells - 1), where - low

    top, bottom, v = places(24)
    left, right, u = places(450)
    rows = grey[:, :, top] * (1 - v[:, None]) + grey[:, :, bottom] * v[:, None]
    expected = (rows[..., left] * (1 - u) + rows[..., right] * u) / 127.5 - 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_file_of_weights_gives_the_same_network(network, picture, pooled, tmp_path, kind):
    """Batch counters are not needed, and tensors beside the network's own do no harm."""
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    weights["AuxLogits.fc.bias"] = torch.zeros(3)
    path = tmp_path / f"network.{kind}"
    (save_file if kind == "safetensors" else torch.save)(weights, path)
    again = features.load(path)
    assert isinstance(again, InceptionV3)
    assert torch.equal(again(picture), pooled)


def test_files_that_are_something_else(network, tmp_path):
    weights = network.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(weights | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(
        UserError, match=r"not the Inception-v3 of FID: 2 tensors.*first fc\.weight; needed is .*6726825d"
    ):
        features.load(path)
    save_file({name: value for name, value in weights.items() if name != "Mixed_6b.branch7x7_2.conv.weight"}, path)
    with pytest.raises(UserError, match=r"1 tensors missing .*Mixed_6b\.branch7x7_2\.conv\.weight"):
        InceptionV3.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"no known feature network: allowed are efficientnet-lite0, inception-v3"):
        features.load(path)
    with pytest.raises(UserError, match="not the Inception-v3 of FID"):
        InceptionV3.load(path)


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    for load, path in ((InceptionV3.load, tmp_path / "any.pth"), (features.load, tmp_path / FILE)):
        with pytest.raises(FileNotFoundError, match=r"pt_inception-2015-12-05-6726825d\.pth.*pytorch-fid") as error:
            load(path)
        assert "nothing is downloaded" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(
        UserError, match=r"needs its file of weights.*pt_inception-2015-12-05-6726825d\.pth.*pytorch-fid"
    ):
        features.load("inception-v3")


def test_a_file_of_the_other_network_gives_that(tmp_path):
    save_file(EfficientNetLite0().state_dict(), tmp_path / "network.safetensors")
    other = features.load(tmp_path / "network.safetensors")
    assert isinstance(other, EfficientNetLite0) and isinstance(other, features.FeatureNetwork) and not other.fid
