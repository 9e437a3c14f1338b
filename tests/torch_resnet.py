"""torchvision's ResNet in PyTorch, with its names; for what runs where PyTorch is."""

import torch
from torch import nn


def conv(inputs, outputs, side, stride=1):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class Block(nn.Module):
    """Basic or bottleneck block (v1.5)."""

    def __init__(self, inputs, planes, stride, kind):
        super().__init__()
        if kind == 'bottleneck':
            outputs = 4 * planes
            convs = [conv(inputs, planes, 1), conv(planes, planes, 3, stride)]
            convs.append(conv(planes, outputs, 1))
        else:
            outputs = planes
            convs = [conv(inputs, planes, 3, stride), conv(planes, planes, 3)]
        self.count = len(convs)
        for number, module in enumerate(convs, start=1):
            self.add_module(f'conv{number}', module)
            self.add_module(f'bn{number}', nn.BatchNorm2d(module.out_channels))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f'bn{number}')(getattr(self, f'conv{number}')(y))
            y = torch.relu(y) if number < self.count else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The network without pooling; its classifier has weights, and is not used."""

    def __init__(self, sizes, kind):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        inputs = 64
        for stage, size in enumerate(sizes):
            blocks = []
            for index in range(size):
                planes = 64 * 2**stage
                blocks.append(Block(inputs, planes, 2 if stage and not index else 1, kind))
                inputs = planes * (4 if kind == 'bottleneck' else 1)
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x):
        """[B, 3, H, W] to [B, C, h, w]."""
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f'layer{number}')(x)
        return x
