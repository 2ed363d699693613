"""Channel groups of published networks in their full size."""
import pytest

from tests.channels import published_models
from tests.channels.net import Net, assert_same, built, names

# {model: groups that can be pruned}. The smaller twins of large ones are in MODELS:
# resnet20, branches, mobilenet_v2.
LARGE = {
    published_models.slim_resnet_v2: 64 + 7552 + 3840,
    published_models.slim_vgg_16: 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096,
}


@pytest.mark.slow
@pytest.mark.parametrize("build", LARGE, ids=names)
def test_groups_of_large_models_are_those_counted_by_hand(build):
    _, _, channels = built(build)
    assert len(channels.prunable()) == LARGE[build]


@pytest.mark.slow
def test_slim_resnet_50_loses_half_of_its_channels():
    net = Net(published_models.slim_resnet_v1)
    # A stem, what lies between the layers of each block, and four residual streams.
    assert len(net.channels.prunable()) == 64 + 7552 + 3840
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))


@pytest.mark.slow
def test_every_convolution_of_slim_inception_v3_but_the_last_is_on_its_own():
    net = Net(published_models.slim_inception_v3)
    outputs = [
        net.values[name].shape[3] for name in net.channels.axes if "weights" in name
    ]
    assert len(outputs) == 95
    assert len(net.channels.prunable()) == sum(outputs) - 10
    # The auxiliary head does not serve.
    assert not any("AuxLogits" in name for name in net.channels.axes)
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))


@pytest.mark.slow
def test_keras_mobilenet_v2_loses_half_of_its_channels():
    net = Net(published_models.keras_mobilenet_v2)
    # Stem and first projection, what each of 16 blocks expands to, seven streams less
    # the first, and the last convolution.
    expanded = 96 + 144 * 2 + 192 * 3 + 384 * 4 + 576 * 3 + 960 * 3
    streams = 24 + 32 + 64 + 96 + 160 + 320
    assert len(net.channels.prunable()) == 32 + 16 + expanded + streams + 1280
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))
