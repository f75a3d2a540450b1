import pytest
import torch
from torch import nn

from mlpop.errors import ConfigError
from mlpop.networks.embedding import (
    ConvolutionalEmbedding,
    ModelConvSBI,
    ModelConvSBIdeep,
    ModelConvSBIshallow,
)
from mlpop.networks.registry import build


@pytest.mark.parametrize(
    ("model", "layout", "parameters", "flattened"),
    [
        (ModelConvSBI, "reference", 150_496, 4096),
        (ModelConvSBI, "documented", 89_120, 1024),
        (ModelConvSBIdeep, "reference", 73_792, 256),
        (ModelConvSBIdeep, "documented", 73_792, 256),
        (ModelConvSBIshallow, "reference", 526_112, 16_384),
        (ModelConvSBIshallow, "documented", 150_496, 4096),
    ],
)
def test_parameter_counts_A2(model, layout, parameters, flattened):
    network = model([3, 32, 32], len_output_layer=32, layout=layout)
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert network.output.in_features == flattened


def test_documented_layout_is_the_default():
    assert len(ModelConvSBI([3, 32, 32]).convolutions) == 3


@pytest.mark.parametrize("filters", [[4], [8, 16, 32], (2, 2, 2, 2)])
@pytest.mark.parametrize("model", [ModelConvSBI, ModelConvSBIshallow])
def test_filters_in_place_of_a_layout(model, filters):
    network = build(model.__name__, {"input_shape": [3, 32, 32], "filters": filters})
    assert [block.out_channels for block in network.convolutions] == list(filters)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (6, 32, 16), (2, 37, 21), (1, 8, 9)])
def test_equals_convolution_then_relu_then_pooling(shape):
    torch.manual_seed(0)
    network = ModelConvSBI(shape, len_output_layer=5)
    plain = nn.Sequential(
        *(
            layer
            for convolution in network.convolutions
            for layer in (convolution, nn.ReLU(), nn.MaxPool2d(2))
        ),
        nn.Flatten(),
        network.output,
        nn.ReLU(),
    )
    x = torch.randn(7, *shape)
    torch.testing.assert_close(network(x), plain(x), rtol=1e-5, atol=1e-6)
    assert network(x).shape == (7, 5)


def test_final_activation():
    torch.manual_seed(1)
    network = build(
        "ModelConvSBI",
        {"input_shape": [1, 8, 8], "len_output_layer": 64, "final_activation": "none"},
    )
    x = torch.randn(4, 1, 8, 8)
    free = network(x).detach()
    assert float(free.min()) < 0
    network.final_activation = nn.ReLU()
    assert torch.equal(network(x).detach(), free.relu())


def test_gradients_reach_every_parameter():
    network = ModelConvSBIdeep([2, 16, 16], len_output_layer=3, final_activation="none")
    network(torch.randn(5, 2, 16, 16)).sum().backward()
    assert all(float(value.grad.abs().sum()) > 0 for value in network.parameters())


def test_too_small_map_names_the_block():
    assert ModelConvSBIdeep([3, 16, 16]).output.in_features == 64
    with pytest.raises(ConfigError, match="block 4 of 4 would leave a map of 1 x 0"):
        ModelConvSBIdeep([3, 16, 15])


def test_wrong_map_shape_is_refused():
    with pytest.raises(ConfigError, match=r"built for maps of shape \(3, 32, 32\).*\(3, 64, 64\)"):
        ModelConvSBI([3, 32, 32])(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"input_shape": [3, 32]}, "input_shape"),
        ({"input_shape": [0, 32, 32]}, "input_shape"),
        ({"input_shape": [3, 32, 32], "len_output_layer": 0}, "len_output_layer"),
        ({"input_shape": [3, 32, 32], "layout": "new"}, "documented, reference.*'new'"),
        ({"input_shape": [3, 32, 32], "final_activation": "tanh"}, "'tanh'"),
    ],
)
def test_bad_arguments(args, message):
    with pytest.raises(ConfigError, match=message):
        ModelConvSBI(**args)


def test_own_filters():
    network = ConvolutionalEmbedding([2, 4, 4], [3], len_output_layer=1)
    assert network.output.in_features == 12
