"""The ResNet-20 of cifar10_pruning.py in PyTorch, and its cost.

As TensorFlow computes it: SAME padding and batch norm constants included.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Convolution(nn.Module):
    """Convolution with TensorFlow's SAME padding, and batch norm."""

    def __init__(self, channels, width, size, stride):
        super().__init__()
        # For stride 2 on an even size SAME is one row below and one column right.
        self.pad_end = (size - 1) // 2 if stride == 2 else 0
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)

    def forward(self, x):
        if self.pad_end:
            x = F.pad(x, (0, self.pad_end, 0, self.pad_end))
        return self.norm(self.conv(x))


class Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        # In TensorFlow's order of creation, which decides the variables' names.
        self.shortcut = Convolution(channels, width, 1, stride) if stride > 1 else None
        self.first = Convolution(channels, width, 3, stride)
        self.second = Convolution(width, width, 3, 1)

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, 16, 3, 1)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.blocks = nn.Sequential(
            *(
                Block(channels if i == 0 else width, width, stride if i == 0 else 1)
                for channels, width, stride in widths
                for i in range(3)
            )
        )
        self.dense = nn.Linear(64, 10)

    def forward(self, x):
        return self.dense(self.blocks(F.relu(self.stem(x))).mean((2, 3)))

    def load(self, arrays):
        """Takes the variables of the TensorFlow model, {name: array}."""
        layers = [m for m in self.modules() if isinstance(m, Convolution)]
        for i, layer in enumerate(layers):
            ending = f"_{i}" if i else ""
            norm = f"batch_normalization{ending}/"
            _set(
                layer.conv.weight,
                arrays[f"conv2d{ending}/kernel"].transpose(3, 2, 0, 1),
            )
            _set(layer.norm.weight, arrays[norm + "gamma"])
            _set(layer.norm.bias, arrays[norm + "beta"])
            _set(layer.norm.running_mean, arrays[norm + "moving_mean"])
            _set(layer.norm.running_var, arrays[norm + "moving_variance"])
        _set(self.dense.weight, arrays["dense/kernel"].T)
        _set(self.dense.bias, arrays["dense/bias"])


def _set(tensor, array):
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def count_macs(model):
    """Multiply-accumulates of the convolutions and the dense layer, one example."""
    macs, hooks = [], []

    def add(layer, _, output):
        positions = output[0, 0].numel() if output.dim() == 4 else 1
        macs.append(layer.weight.numel() * positions)

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(add))
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(macs)


def count_params(model):
    """As the package counts them: moving averages included."""
    buffers = [b for b in model.buffers() if b.dim() == 1]
    return sum(t.numel() for t in [*model.parameters(), *buffers])
