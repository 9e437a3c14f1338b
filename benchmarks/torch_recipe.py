r"""Trains the CNN alone in PyTorch on UTKFace: are this project's scores what others would get?

    python -m pip install -e '.[torch]'
    python benchmarks/torch_recipe.py --manual_dir=DIR --weights=FILE --workdir=OUT

Network, augmentation, training and prediction are PyTorch's and torchvision's; splits, decoded
faces and scores are those of `hybrid`. The recipe: ResNet-18, global average pooling, dropout 0.2;
AdamW with PyTorch's one-cycle schedule to --learning_rate, weight decay 0.05, batch 64, 8 epochs;
the loss is cross-entropy + 2 x MSE of (age - 33) / 20; rotation 15 degrees, scale 15 %, shift 4 px
of 112, flip, brightness 30 %; 96 px out of 112; flip averaging. No epoch is selected: the last one
counts. Test faces are predicted once, at the end.

The recipe utkface_resnet18_imagenet as it was when they were compared (the run
results/utkface_resnet18_imagenet_mse.json) differs only in this: its rate is 3e-4, gradients are
clipped, weight decay leaves out biases and norms, Adam's beta 1 stays 0.9 (PyTorch's schedule moves
it between 0.85 and 0.95), and the epoch that is best on validation counts.

On 2 cores of an Intel Xeon (torch 2.13.0, seed 0, partial ImageNet weights without layer4):

    --learning_rate  commit   validation                     test                           minutes
    1e-3             bcee2d5  MAE 4.81 years, gender 93.7 %  MAE 4.89 years, gender 94.3 %  25
    3e-4             4a4e565  MAE 4.68 years, gender 94.3 %  MAE 4.81 years, gender 94.2 %  25

OUT is a workdir for `tools.compare`. The predictions of these two runs are kept in
results/predictions/, as torch_recipe_1e-3 and torch_recipe_3e-4; results/comparisons.json has their
differences to this project's runs.
"""

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np

try:
    import torch
    import torchvision
    from safetensors.torch import load_file, save_model
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    sys.exit(f"error: {error}; install the extra: python -m pip install -e '.[torch]'")

from hybrid import recipes
from hybrid.data import augment, input_pipeline, prepared, records
from hybrid.runs import dataset_record
from hybrid.scores import joining, metrics, report

BATCH, EPOCHS, RESIZE, SIZE = 64, 8, 112, 96
OFFSET, SCALE = 33.0, 20.0


class Network(nn.Module):
    """ResNet-18 with global average pooling, an age head and a gender head."""

    def __init__(self, weights: str):
        super().__init__()
        self.encoder = torchvision.models.resnet18()
        self.encoder.fc = nn.Identity()
        tensors = {name: x for name, x in load_file(weights).items() if not name.startswith('fc.')}
        missing, unused = self.encoder.load_state_dict(tensors, strict=False)
        if unused or any(not name.startswith('layer4.') for name in missing):
            sys.exit(
                f"error: {weights} is no ResNet-18 of torchvision's names, complete up to layer3: "
                f'{len(missing)} tensors are missing, {len(unused)} unused: {unused[:3]}'
            )
        print(f'{weights}: {len(missing)} tensors of layer4 are not there, and are initialised')
        self.age, self.gender = nn.Linear(512, 1), nn.Linear(512, 2)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] to ages [B] in units of SCALE from OFFSET, and gender logits [B, 2]."""
        x = self.dropout(self.encoder(x))
        return self.age(x)[:, 0], self.gender(x)


def load(builder: Any, split: str) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Reads all images of a split, uint8 [N, R, R, 3], and its labels."""
    examples = input_pipeline.Examples(builder, split, RESIZE)
    parts = [examples.load(part)['image'] for part in np.array_split(np.arange(len(examples)), 64)]
    return torch.from_numpy(np.concatenate(parts)), records.read_columns(builder, split)


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Turns uint8 [B, H, W, 3] into float32 [B, 3, H, W] in 0..1."""
    return images.permute(0, 3, 1, 2).float() / 255


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Turns [B, 3, H, W] in 0..1 into what the weights expect."""
    mean = torch.tensor(augment.IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(augment.IMAGENET_STD).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def vary(images: torch.Tensor) -> torch.Tensor:
    """Augments [B, 3, RESIZE, RESIZE] to [B, 3, SIZE, SIZE], all in 0..1."""
    count = len(images)

    def uniform(limit):
        return (torch.rand(count) * 2 - 1) * limit

    angle, zoom = torch.deg2rad(uniform(15.0)), 1 + uniform(0.15)
    right, down = uniform(4.0) / (RESIZE / 2), uniform(4.0) / (RESIZE / 2)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos = torch.cos(angle) / zoom * SIZE / RESIZE
    sin = torch.sin(angle) / zoom * SIZE / RESIZE
    rows = [torch.stack([mirror * cos, -mirror * sin, mirror * right], 1)]
    rows.append(torch.stack([sin, cos, down], 1))
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 3, SIZE, SIZE], align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode='border', align_corners=False)
    return (images * (1 + uniform(0.3)).view(-1, 1, 1, 1)).clamp(0, 1)


@torch.no_grad()
def predict(network: nn.Module, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Predicts ages [N] in years and probabilities [N] of female, with flip averaging."""
    network.eval()
    edge = (RESIZE - SIZE) // 2
    ages, female = [], []
    for part in images.split(128):
        faces = normalize(to_unit(part)[:, :, edge:-edge, edge:-edge])
        outputs = [network(x) for x in (faces, faces.flip(3))]
        ages.append(sum(age for age, _ in outputs) / 2 * SCALE + OFFSET)
        female.append(sum(logits.softmax(1)[:, 1] for _, logits in outputs) / 2)
    return {
        'predicted_age': torch.cat(ages).numpy(),
        'female_probability': torch.cat(female).numpy(),
    }


def train_epoch(
    network: nn.Module,
    optimizer: Any,
    schedule: Any,
    images: torch.Tensor,
    columns: dict[str, np.ndarray],
) -> None:
    """Trains on all images once, in random order; what does not fill a batch is left out."""
    network.train()
    ages, genders = torch.from_numpy(columns['age']), torch.from_numpy(columns['gender'])
    order = torch.randperm(len(images))
    for part in order.split(BATCH)[: len(order) // BATCH]:
        age, logits = network(normalize(vary(to_unit(images[part]))))
        loss = functional.cross_entropy(logits, genders[part])
        loss = loss + 2 * functional.mse_loss(age, (ages[part] - OFFSET) / SCALE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    """Trains, and writes OUT/evaluation/validation and OUT/evaluation/test."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--manual_dir', required=True, help="holds UTKFace's archive")
    parser.add_argument('--weights', required=True, help="torchvision's ResNet-18, .safetensors")
    parser.add_argument('--workdir', required=True, type=pathlib.Path)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--learning_rate', type=float, default=1e-3)
    options = parser.parse_args()
    if not pathlib.Path(options.weights).is_file():
        sys.exit(f'error: --weights={options.weights} is not a file')
    if (options.workdir / 'evaluation').exists():
        sys.exit(f'error: {options.workdir} holds an evaluation; name another --workdir')
    torch.manual_seed(options.seed)
    config = recipes.get_config('utkface_resnet18_imagenet')
    config.data.manual_dir = options.manual_dir
    builder = prepared.create_prepared_builder(config)
    network = Network(options.weights).to(memory_format=torch.channels_last)
    options.workdir.mkdir(parents=True, exist_ok=True)
    (images, columns), validation = load(builder, 'train'), load(builder, 'validation')
    record = dataset_record.describe(builder.info.full_name, {'train': columns}, 'train')

    def evaluate(images, columns):
        subgroups = prepared.subgroup_names(builder.info.features)
        return joining.join(predict(network, images), columns, record, subgroups)

    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        options.learning_rate,
        total_steps=EPOCHS * (len(images) // BATCH),
    )
    start = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        train_epoch(network, optimizer, schedule, images, columns)
        rows = evaluate(*validation)
        scores = metrics.prediction_scores(rows)
        seconds = time.monotonic() - start
        print(
            f'epoch {epoch}: validation MAE {scores["age/mae"]:.3f}, '
            f'gender {scores["gender/accuracy"]:.2%}, {seconds:.0f} s',
            flush=True,
        )
    save_model(network, str(options.workdir / 'network.safetensors'))
    reports = {'validation': rows, 'test': evaluate(*load(builder, 'test'))}
    for name, rows in reports.items():
        folder = options.workdir / 'evaluation' / name
        scores = report.write_report(rows, folder, f'PyTorch, seed {options.seed}, {name}')
        print(report.format_table(scores, name))


if __name__ == '__main__':
    main()
