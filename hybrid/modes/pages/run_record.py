"""Everything that the files of a workdir say of a run, without its checkpoints and its dataset."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid.default_config import get_config
from hybrid.runs import dataset_record, provenance, public, workdir
from hybrid.schema import flatten
from hybrid.scores import predictions_csv, rows, subgroups

_METRICS, _ABOUT = 'metrics.json', 'evaluation.json'


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluated split.

    Attributes:
      folder: Where its files lie.
      dataset: The full name of the dataset.
      split: The split.
      own: Whether it is a dataset that the run was trained on.
      scores: Of metrics.json; NaN where a score is undefined.
      about: What evaluation.json says of the checkpoint.
    """

    folder: pathlib.Path
    dataset: str
    split: str
    own: bool
    scores: Mapping[str, float]
    about: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Such as `utkface/default, test`."""
        return f'{short(self.dataset)}, {self.split}'

    @property
    def checkpoint(self) -> str:
        """Such as `best checkpoint, step 2,313`, and what was not as in the training."""
        if 'workdirs' in self.about:
            text = f'{len(self.about["workdirs"])} runs together'
        elif 'step' in self.about:
            kind, step = self.about.get('checkpoint', ''), self.about['step']
            text = f'{kind} checkpoint, step {step:,}'.strip()
        else:
            return ''
        changed: dict[str, Any] = {}
        for one in self.about.get('workdirs', [self.about]):
            changed |= one.get('overrides', {})
        return ', '.join([text, *(f'{key}={value}' for key, value in changed.items())])

    def rows(self) -> rows.Rows:
        """Its predictions, read from predictions.csv."""
        return predictions_csv.read_predictions(self.folder / 'predictions.csv')

    def cells(self) -> list[subgroups.Cell]:
        """Its crossed subgroups, from subgroups.csv; none if there is no such file."""
        path = self.folder / 'subgroups.csv'
        if not path.exists():
            return []
        known = (*subgroups.SCORES, *subgroups.INTERVAL_SCORES, *subgroups.COVERAGE_SCORES)
        try:
            with path.open(newline='', encoding='utf-8') as file:
                lines = list(csv.DictReader(file))
            return [
                {k: float(v or 'nan') if k in known else v for k, v in line.items()}
                for line in lines
            ]
        except (ValueError, csv.Error) as error:
            raise ValueError(f'{path} is damaged ({error}); evaluate again') from None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, or several that were evaluated together.

    Attributes:
      folder: The workdir, or the folder of the evaluation of several.
      name: What it is called.
      config: All keys with their values, flat, but for those of a machine; empty for several.
      dataset: Of dataset.json.
      sources: Of pretrained.json.
      session: Of `provenance.describe_sessions`.
      evaluations: What was evaluated: its own test split first, then its validation split.
      parts: The runs that were evaluated together, as far as their workdirs are there.
    """

    folder: pathlib.Path
    name: str
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]]
    session: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    parts: 'Sequence[Run]' = ()

    @property
    def datasets(self) -> list[Mapping[str, Any]]:
        """What dataset.json says of each dataset that was trained on."""
        return list(self.dataset.get('datasets', [self.dataset] if self.dataset else []))

    def replace(self, **changes: Any) -> 'Run':
        """A copy with other attributes."""
        return dataclasses.replace(self, **changes)

    def changed(self) -> list[tuple[str, Any, Any]]:
        """The keys of the config that differ from the default: (key, value, default)."""
        defaults = _defaults()
        return [
            (key, value, defaults.get(key))
            for key, value in sorted(self.config.items())
            if key not in defaults or value != defaults[key]
        ]


def short(dataset: str) -> str:
    """The name of a dataset without its version."""
    name, _, version = dataset.rpartition('/')
    return name if name and version.replace('.', '').isdigit() else dataset


def read(folder: pathlib.Path) -> Run:
    """Reads what a workdir, or a folder with the evaluation of several, says.

    Raises:
      FileNotFoundError: when it is no such folder.
      ValueError: when a file is damaged.
    """
    name = ' '.join(folder.resolve().name.split())
    if not (folder / workdir.CONFIG).exists() and _evaluated_splits(folder):
        places = evaluations(folder, {}, {})[0].about.get('workdirs', ())
        folders = [pathlib.Path(place['workdir']) for place in places]
        parts = [read(part) for part in folders if (part / workdir.CONFIG).exists()]
        dataset, config = together(parts), parts[0].config if parts else {}
        found = evaluations(folder, dataset, config)
        return Run(folder, name, {}, dataset, [], {}, found, parts)
    saved = flatten(workdir.read_config(folder))
    config = _defaults() | workdir.FORMER_VALUES | saved
    config = {key: value for key, value in config.items() if key not in workdir.MACHINE_KEYS}
    dataset = dataset_record.load(folder) if (folder / dataset_record.FILE).exists() else {}
    return Run(
        folder,
        name,
        public.without_folders(config),
        dataset,
        public.without_folders(workdir.load_sources(folder)),
        provenance.describe_sessions(folder),
        evaluations(folder, dataset, config),
    )


def together(runs: Sequence[Run]) -> dict[str, Any]:
    """What dataset.json would say of runs that are combined: as of the first, with all datasets."""
    of_names = {json.dumps(x, sort_keys=True): x for run in runs for x in run.datasets}
    first = dict(runs[0].dataset) if runs else {}
    return first | {'datasets': list(of_names.values())} if len(of_names) > 1 else first


def _evaluated_splits(folder: pathlib.Path) -> list[pathlib.Path]:
    found = (folder / 'evaluation').glob(f'*/{_METRICS}')
    of_datasets = (folder / 'evaluation').glob(f'*/*/{_METRICS}')
    return sorted(path.parent for path in (*found, *of_datasets))


def evaluations(
    folder: pathlib.Path, dataset: Mapping[str, Any], config: Mapping[str, Any]
) -> list[Evaluation]:
    """Reads what was evaluated into a folder.

    Args:
      folder: What holds `evaluation/`.
      dataset: Of dataset.json.
      config: Of the run, flat.

    Raises:
      ValueError: when a file is damaged.
    """
    names = [one['name'] for one in dataset.get('datasets', [dataset] if dataset else [])]
    found = []
    for place in _evaluated_splits(folder):
        about: dict[str, Any] = {}
        if (place / _ABOUT).exists():
            about = workdir.read_json(place / _ABOUT, 'evaluate again')
        # Other datasets have a folder of their own, and so have all after a training on several.
        nested = place.parent.name != 'evaluation'
        name = about.get('dataset') or (place.parent.name if nested else dataset.get('name', ''))
        split = about.get('split') or place.name
        own = name in names if nested else True
        found.append(Evaluation(place, name, split, own, _scores(place / _METRICS), about))

    def order(one: Evaluation) -> tuple[Any, ...]:
        roles = [config.get(f'data.{role}_split') for role in ('test', 'validation', 'train')]
        return not one.own, roles.index(one.split) if one.split in roles else 3, one.title

    return sorted(found, key=order)


def _scores(path: pathlib.Path) -> dict[str, float]:
    scores = workdir.read_json(path, 'evaluate again')
    known = all(isinstance(value, int | float | None) for value in scores.values())
    if known and 'num_examples' in scores:
        return {name: math.nan if value is None else value for name, value in scores.items()}
    raise ValueError(f'{path} holds other things than scores, or none; evaluate again')


def _defaults() -> dict[str, Any]:
    config = json.loads(json.dumps(get_config().to_dict()))
    return {key: v for key, v in flatten(config).items() if key not in workdir.MACHINE_KEYS}
