r"""What the source paper calls traditional, on UTKFace: linear models on fixed features.

    python -m pip install -e '.[traditional]'
    python benchmarks/traditional.py --method=hog --manual_dir=DIR --workdir=OUT
    python benchmarks/traditional.py --method=resnet50 --weights=FILE --manual_dir=DIR --workdir=OUT

Faces are the centre crops of S x S px that networks of that size are evaluated on.

- hog: histograms of oriented gradients (Dalal & Triggs, CVPR 2005) of the luma in 0..1: centred
  differences without smoothing, 9 orientations over 0 to 180 degrees, cells of C x C px, blocks of
  2 x 2 cells one cell apart, each scaled by L2-Hys (clipped at 0.2); all blocks one after another.
- resnet18, resnet50: a ResNet with its ImageNet weights, frozen, in inference mode and in bfloat16
  (ResNet-50 is v1, with the stride in the 1x1 convolution). The features are the means over
  positions of what layer3 gives, or layer4, or both, each scaled to mean 0 and deviation 1 over the
  training faces. A stage that the weights lack is left out.
- mirrored: the features are the means over a face and its mirror image, in training and after it.
  Mirroring permutes the features of HOG (but for gradients at exactly 0 degrees), so there the best
  weights for faces and mirror images together are symmetric: this is what training on both gives.

Age is ridge regression (Hoerl & Kennard, Technometrics 1970), with an intercept that is not
penalised; as for the networks, nobody is younger than 0. Gender from HOG is a linear support vector
machine with the hinge loss (Cortes & Vapnik, Machine Learning 1995), and its probability a logistic
function of the margin whose one factor is fitted on validation, which leaves the decision where it
is. Gender from ResNets is logistic regression with an L2 penalty.

Features and penalties are chosen on validation, for age and gender each by itself; what was tried
stands in OUT/config.json and, once recorded, in results/. For ResNets the image size, which both
share, the stage and mirroring are chosen with SUBSET training faces, penalties with all. Models are
fitted on the training split alone, and test is read once, at the end.

OUT is a workdir for `tools.record` and `tools.compare`. Features are kept there, in `features`, so
that a run that was interrupted goes on.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

try:
    from features import Features, Load, create_resnet, hog_method, resnet_method
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
except ImportError as error:
    sys.exit(f"error: {error}; install the extra: python -m pip install -e '.[traditional]'")

from hybrid import files, recipes
from hybrid.data import prepared, records
from hybrid.ops import kernels
from hybrid.runs import dataset_record, provenance
from hybrid.scores import joining, report
from hybrid.weights import tensor_files

SEED, SUBSET = 0, 3000
SIZES = (64, 96, 128)
# Image size and size of a cell, both in pixels.
HOG = ((64, 8), (96, 8), (96, 12), (128, 16))
ALPHAS = {'hog': (1, 3, 10, 30, 100, 300), 'resnet': (100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)}
# The first one is taken until features are chosen.
PENALTIES = {'hog': (0.01, 0.001, 0.003, 0.03, 0.1), 'resnet': (1e-3, 1e-4, 1e-2, 1e-1)}

# Features [N, F] -> a number for each face, [N].
Predict = Callable[[np.ndarray], np.ndarray]


class Made(NamedTuple):
    """Features [N, F] of training faces and of validation; how they were made.

    `rows` are the places of the training faces; None for all.
    """

    train: np.ndarray
    validation: np.ndarray
    rows: np.ndarray | None
    settings: dict[str, Any]


class Fitted(NamedTuple):
    """A model, and how it was made: features, penalty, validation score."""

    settings: dict[str, Any]
    predict: Predict


class Search:
    """Fits models with many settings, and remembers all of them and the best on validation."""

    def __init__(self, kind: str, train: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]):
        self._kind = kind
        self._train, self._valid = train, valid
        self.tried: list[dict[str, Any]] = []

    def age(self, made: Made) -> Fitted:
        """Fits ridge regressions, and returns the one with the least MAE on validation."""
        x, valid, rows, settings = made
        alphas = np.array(ALPHAS[self._kind], np.float64)
        ages = self._take('age', rows).astype(np.float64)
        # One target for each penalty: the products of features are then computed once.
        model = self._pipeline(Ridge(alpha=alphas, solver='cholesky'))
        model.fit(x.astype(np.float64), np.tile(ages[:, None], len(alphas)))
        errors = np.abs(np.maximum(model.predict(valid), 0) - self._valid['age'][:, None]).mean(0)

        def predict(k: int) -> Predict:
            return lambda features: np.maximum(model.predict(features)[:, k], 0)

        fitted = [
            self._note(
                settings | {'faces': len(x), 'alpha': float(alpha), 'age/mae': float(error)},
                predict(k),
            )
            for k, (alpha, error) in enumerate(zip(alphas, errors, strict=True))
        ]
        return better(fitted)

    def gender(self, made: Made, penalties: slice) -> Fitted:
        """Fits classifiers with some of the penalties, and returns the most accurate one.

        It predicts margins, which are above 0 for female.
        """
        x, valid, rows, settings = made
        fitted = []
        for c in PENALTIES[self._kind][penalties]:
            linear = (
                LinearSVC(C=c, loss='hinge', random_state=SEED, max_iter=20_000)
                if self._kind == 'hog'
                else LogisticRegression(C=c, max_iter=2000)
            )
            model = self._pipeline(linear).fit(x, self._take('gender', rows))
            right = (model.decision_function(valid) > 0) == (self._valid['gender'] == 1)
            score = {'faces': len(x), 'C': c, 'gender/accuracy': float(right.mean())}
            fitted.append(self._note(settings | score, model.decision_function))
        return better(fitted)

    def _take(self, name: str, rows: np.ndarray | None) -> np.ndarray:
        return self._train[name] if rows is None else self._train[name][rows]

    def _pipeline(self, model: Any) -> Any:
        return (
            make_pipeline(model) if self._kind == 'hog' else make_pipeline(StandardScaler(), model)
        )

    def _note(self, settings: dict[str, Any], predict: Predict) -> Fitted:
        if settings not in self.tried:
            self.tried.append(settings)
        print(f'{time.process_time():6.0f} s', settings, flush=True)
        return Fitted(settings, predict)


def better(fitted: Sequence[Fitted]) -> Fitted:
    """Returns the model with the best validation score; of several the first."""
    if 'age/mae' in fitted[0].settings:
        return min(fitted, key=lambda one: one.settings['age/mae'])
    return max(fitted, key=lambda one: one.settings['gender/accuracy'])


def choose(
    search: Search, load: Load, kind: str, plain: Sequence[dict], rows: np.ndarray | None
) -> Fitted:
    """Chooses features, whether to mirror, and the penalty, one after the other.

    Args:
      search: Fits models.
      load: Loads features by their settings.
      kind: 'age' or 'gender'.
      plain: Settings of the features to choose from.
      rows: The training faces with which features are chosen; None for all.
    """

    def fit(settings: dict, rows: np.ndarray | None, penalties: slice) -> Fitted:
        made = Made(load('train', settings, rows), load('validation', settings), rows, settings)
        # All penalties of ridge regression cost hardly more than one.
        return search.age(made) if kind == 'age' else search.gender(made, penalties)

    first, every = slice(1), slice(None)
    best = better([fit(settings, rows, first) for settings in plain])
    settings = {name: best.settings[name] for name in plain[0]}
    mirrored = fit(settings | {'mirrored': True}, rows, first)
    settings['mirrored'] = better([best, mirrored]) is mirrored
    return fit(settings, None, every)


def fit_probability(margins: np.ndarray, genders: np.ndarray) -> float:
    """Fits the factor k of the probability 1 / (1 + exp(-k * margin)) of female."""
    model = LogisticRegression(C=np.inf, fit_intercept=False).fit(margins[:, None], genders)
    return float(model.coef_[0, 0])


def get_config(options: argparse.Namespace) -> ConfigDict:
    """Returns the config of the CNN alone, with the data and the network of this program."""
    config = recipes.get_config('utkface_resnet18_imagenet')
    config.data.manual_dir = options.manual_dir
    config.data.data_dir = options.data_dir or config.data.data_dir
    config.seed = SEED
    if options.method == 'hog':
        return config
    config.model.dtype = 'bfloat16'
    encoder = config.model.encoder
    encoder.name, encoder.pretrained = options.method, options.weights
    encoder.allow_missing = tuple(filter(None, options.allow_missing.split(',')))
    if options.method == 'resnet50':
        encoder.bottleneck_stride = '1x1'
    return config


def run(config: ConfigDict, method: str, folder: pathlib.Path) -> None:
    """Chooses, reads test, and writes what `tools.record` reads."""
    builder = prepared.create_prepared_builder(config)
    labels = {name: records.read_columns(builder, name) for name in ('train', 'validation')}
    search = Search('hog' if method == 'hog' else 'resnet', labels['train'], labels['validation'])
    weights = config.model.encoder.pretrained if method != 'hog' else ''
    digest = tensor_files.sha256(pathlib.Path(weights))[:8] if weights else ''
    features = Features(builder, folder / 'features' / f'{method}{digest}')
    rows = None
    if method == 'hog':
        load = hog_method(features)
        plain = [{'size': size, 'cell': cell, 'mirrored': False} for size, cell in HOG]
    else:
        extract, places = create_resnet(config, folder)
        load = resnet_method(features, extract, places)
        plain = [{'size': s, 'stage': stage, 'mirrored': False} for s in SIZES for stage in places]
        count = len(labels['train']['id'])
        rows = np.sort(np.random.default_rng(SEED).permutation(count)[:SUBSET])
    chosen = {'age': choose(search, load, 'age', plain, rows)}
    if method != 'hog':  # A network's features cost most of the time: they are of one size.
        plain = [one for one in plain if one['size'] == chosen['age'].settings['size']]
    chosen['gender'] = choose(search, load, 'gender', plain, rows)
    labels['test'] = records.read_columns(builder, 'test')
    predicted = {
        split: {kind: model.predict(load(split, model.settings)) for kind, model in chosen.items()}
        for split in ('validation', 'test')
    }
    factor = 1.0
    if method == 'hog':
        factor = fit_probability(predicted['validation']['gender'], labels['validation']['gender'])
    record = dataset_record.describe(builder.info.full_name, labels, 'train')
    dataset_record.save(folder, record)
    mirrored = all(model.settings['mirrored'] for model in chosen.values())
    about = {'checkpoint': 'best', 'flip_average': mirrored, 'dataset': builder.info.full_name}
    about['cpu_seconds'] = round(time.process_time())
    subgroups = prepared.subgroup_names(builder.info.features)
    described = {
        'seed': config.seed,
        'method': method,
        'data': {name: config.data[name] for name in ('dataset', 'validation_split', 'test_split')},
        'evaluate': {'flip_average': mirrored},
        **{kind: model.settings for kind, model in chosen.items()},
        'gender_probability_factor': factor,
        'tried': search.tried,
    }
    if method != 'hog':
        described['model'] = {
            'encoder': config.model.encoder.to_dict(),
            'dtype': config.model.dtype,
        }
    files.write_json(folder / 'config.json', described)
    (folder / 'metrics.jsonl').write_text('')
    for split, of_split in predicted.items():
        columns = {
            'predicted_age': of_split['age'],
            'female_probability': 1 / (1 + np.exp(-factor * of_split['gender'])),
        }
        joined = joining.join(columns, labels[split], record, subgroups)
        output = folder / 'evaluation' / split
        scores = report.write_report(joined, output, f'{method}, {split}')
        files.write_json(output / 'evaluation.json', about | {'split': split})
        print(report.format_table(scores, split))


def main() -> None:
    """Writes OUT, which must not hold an evaluation yet."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--method', required=True, choices=('hog', 'resnet18', 'resnet50'))
    parser.add_argument('--manual_dir', required=True, help="holds UTKFace's archive")
    parser.add_argument('--data_dir', default='', help='where UTKFace is prepared')
    parser.add_argument('--weights', default='', help="a ResNet of torchvision's names")
    parser.add_argument('--allow_missing', default='', help='stages that the weights may lack')
    parser.add_argument('--workdir', required=True, type=pathlib.Path)
    options = parser.parse_args()
    if (options.method == 'hog') == bool(options.weights):
        parser.error('--weights is for ResNets, which need it')
    if (options.workdir / 'evaluation').exists():
        parser.error(f'{options.workdir} holds an evaluation; name another --workdir')
    config = get_config(options)
    kernels.settle(config)
    options.workdir.mkdir(parents=True, exist_ok=True)
    try:
        with provenance.session(options.workdir, 0, config.model.kernels):
            run(config, options.method, options.workdir)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
