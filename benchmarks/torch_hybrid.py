"""The same network in PyTorch, written as one would: torchvision's ResNet, `nn.LSTM`, two heads."""

import torch
from torch import nn

STAGES = {
    'resnet18': ((2, 2, 2, 2), 'basic'),
    'resnet34': ((3, 4, 6, 3), 'basic'),
    'resnet50': ((3, 4, 6, 3), 'bottleneck'),
}


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """Residual block, basic or bottleneck (v1.5)."""

    def __init__(self, inputs: int, features: int, stride: int, kind: str):
        super().__init__()
        outputs = features * (4 if kind == 'bottleneck' else 1)
        if kind == 'bottleneck':
            sizes = [(inputs, features, 1, 1), (features, features, 3, stride)]
            sizes.append((features, outputs, 1, 1))
        else:
            sizes = [(inputs, features, 3, stride), (features, features, 3, 1)]
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [_convolution(*size), nn.BatchNorm2d(size[1]), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, outputs, h, w]."""
        return self.relu(self.layers(x) + self.shortcut(x))


class TorchHybrid(nn.Module):
    """ResNet, its map read row by row by an LSTM whose last state feeds both heads."""

    def __init__(self, encoder: str = 'resnet18', width: int = 64, features: int = 256):
        super().__init__()
        sizes, kind = STAGES[encoder]
        layers: list[nn.Module] = [_convolution(3, width, 7, 2), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        channels = width
        for stage, size in enumerate(sizes):
            for index in range(size):
                stride = 2 if stage and not index else 1
                layers.append(Block(channels, width * 2**stage, stride, kind))
                channels = width * 2**stage * (4 if kind == 'bottleneck' else 1)
        self.encoder = nn.Sequential(*layers)
        self.lstm = nn.LSTM(channels, features, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.age, self.gender = nn.Linear(features, 1), nn.Linear(features, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] to ages [B] in years and gender logits [B, 2]."""
        sequence = self.encoder(images).flatten(2).transpose(1, 2)
        _, (h, _) = self.lstm(sequence)
        h = self.dropout(h[-1])
        return self.age(h)[:, 0] * 20 + 33, self.gender(h)
