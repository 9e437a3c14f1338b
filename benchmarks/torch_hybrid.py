"""The same network in PyTorch, written as one would: torchvision's ResNet, `nn.LSTM`, two heads."""

import torch
import torchvision
from torch import nn


class TorchHybrid(nn.Module):
    """A ResNet, whose map is read row by row by an LSTM, whose last state feeds both heads."""

    def __init__(self, encoder: str = 'resnet18', features: int = 256):
        super().__init__()
        resnet = torchvision.models.get_model(encoder)
        # Without the average pooling and the classifier.
        self.encoder = nn.Sequential(*list(resnet.children())[:-2])
        self.lstm = nn.LSTM(resnet.fc.in_features, features, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.age, self.gender = nn.Linear(features, 1), nn.Linear(features, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] to ages [B] in years and gender logits [B, 2]."""
        sequence = self.encoder(images).flatten(2).transpose(1, 2)
        _, (h, _) = self.lstm(sequence)
        h = self.dropout(h[-1])
        return self.age(h)[:, 0] * 20 + 33, self.gender(h)
