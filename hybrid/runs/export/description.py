"""model.json: what an export is, for programs and for people.

It names no folder, no machine and no example.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from hybrid import __version__
from hybrid.datasets import geometry, terms
from hybrid.photos import alignment
from hybrid.runs import dataset_record, face_ranges
from hybrid.runs.calibration import Calibration
from hybrid.runs.export import network, views
from hybrid.runs.export.members import Member, Shares
from hybrid.runs.export.predict import FORMAT, VERSION
from hybrid.runs.trained import Trained
from hybrid.scores.outcomes import GENDERS

OUTPUTS = {
    'age': 'years, at least 0',
    'age_low': 'years: the lower end of the interval',
    'age_high': 'years: the upper end of the interval',
    'age_width': 'years: standard deviation of the predicted distribution of age',
    'age_std': 'years: standard deviation between the ages of the members',
    'age_probabilities': 'probabilities of the ages 0, 1, 2 and so on',
    'female_probability': 'probability of female; that of male is 1 less it',
    'gender_agreement': 'share of the members whose own gender is that of all together',
}
_LANDMARKS = ('left eye', 'right eye', 'tip of the nose', 'left of the mouth', 'right of the mouth')


def describe(
    models: Sequence[Trained],
    members: Sequence[Member],
    shares: Shares,
    calibrated: Calibration | None,
    outputs: Sequence[str],
) -> dict[str, Any]:
    """Describes an export, but for its `files`.

    Args:
      models: What is exported.
      members: Their networks.
      shares: How these are combined.
      calibrated: What validation says of the predictions.
      outputs: The names of the outputs.
    """
    settings, size = models[0].config.evaluate, models[0].config.data.resize_size
    shapes = network.shapes(outputs)
    found = calibrated and 'age_low' in outputs and calibrated.intervals(settings)
    tempered = calibrated and 'female_probability' in outputs and settings.calibrate_gender
    return {
        'format': FORMAT,
        'format_version': VERSION,
        'hybrid_version': __version__,
        'input': {
            'name': network.IMAGE,
            'size': size,
            'shape': ['batch', size, size, 3],
            'pixels': 'uint8, RGB; rows from the top, pixels from the left',
            'resize': 'the middle square; mean over areas where it shrinks, bilinear elsewhere',
        },
        'faces': _faces(models),
        'detect': _detect(models[0].config.detect),
        'outputs': {name: list(shapes[name]) for name in outputs},
        'meanings': {name: OUTPUTS.get(name, '') for name in outputs},
        'genders': list(GENDERS),
        'unsure_below': settings.unsure_below,
        'temperature': calibrated.temperature if calibrated and tempered else None,
        'intervals': found
        and {
            'level': settings.interval_level,
            'errors': 'scaled by age_width' if found.scaled else 'absolute',
            'fitted_on': models[0].config.data.validation_split,
            'num_examples': sum(map(len, found.errors)),
            'from_ages': [0.0, *found.edges],
        },
        'members': [_member(member, shares, k) for k, member in enumerate(members)],
        'datasets': _datasets(models),
        'known_faces': face_ranges.load(models[0].folder),
    }


def _member(member: Member, shares: Shares, place: int) -> dict[str, Any]:
    model = member.config.model
    weights = {'age': shares.age, 'gender': shares.gender}
    of_kinds = {
        kind: dict(zip(shares.predicts[kind], weights[kind].tolist(), strict=True))
        for kind in weights
    }
    return {
        'name': member.name,
        'encoder': model.encoder.name,
        'cell': model.recurrent.cell,
        'age_head': model.head.age,
        'normalization': member.config.data.normalization,
        'views': views.describe(member.config),
        'checkpoint': member.model.checkpoint,
        'step': member.model.step,
        'weights': {kind: of[place] for kind, of in of_kinds.items() if place in of},
    }


def _faces(models: Sequence[Trained]) -> dict[str, Any]:
    """How faces have to be cut for the model."""
    cut = dict(dataset_record.load_geometry(models[0].folder))
    aligned = not geometry.differ(cut, geometry.UTKFACE_CHIPS)
    template = {
        'template_version': alignment.TEMPLATE_VERSION,
        # Shares of the side, from the left and from the top.
        'landmarks': dict(zip(_LANDMARKS, alignment.TEMPLATE.round(6).tolist(), strict=True)),
    }
    return {'cut': geometry.describe(cut)} | cut | (template if aligned else {})


def _detect(settings: ConfigDict) -> dict[str, Any]:
    """How faces are searched for in photographs, but for where the detector's file lies."""
    return {name: value for name, value in settings.items() if name != 'model'}


def _datasets(models: Sequence[Trained]) -> list[dict[str, str]]:
    """The names of what the models were trained on, and the terms of each."""
    names: list[str] = []
    for model in models:
        record = dataset_record.load(model.folder)
        names += [one['name'] for one in record.get('datasets', [record])]
    known = {name: terms.of(name) for name in names}
    return [
        {'name': name, 'licence': of.licence, 'link': of.link, 'terms': of.text}
        for name, of in known.items()
    ]


def metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """What ONNX and safetensors files say of themselves: texts by name."""
    datasets = (f'{one["name"]}: {one["terms"]}' for one in description['datasets'])
    return {
        'format': f'{FORMAT} {VERSION}',
        'hybrid_version': __version__,
        'terms_of_the_training_data': '; '.join(datasets),
    }
