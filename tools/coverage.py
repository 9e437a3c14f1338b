"""Tabulates what prediction intervals hold, fitted on one split of kept predictions, on another."""

from collections.abc import Iterator, Sequence

import numpy as np

from hybrid.scores import calibration, intervals, metrics
from hybrid.scores.predictions_csv import read_predictions
from hybrid.scores.rows import Rows
from hybrid.scores.subgroups import wilson_interval
from tools.kept import DETAILED, predictions_path
from tools.rows import markdown

LEVELS = (0.8, 0.9, 0.95)
BANDS = 'fairface9'


def intervals_table() -> list[str]:
    """Shows coverage by band of the predicted and of the true age, and the mean width."""
    fitted, test = (read_predictions(predictions_path(DETAILED, s)) for s in ('validation', 'test'))
    # Scaled by the predicted widths, as `evaluate.interval_errors=auto` does.
    found = intervals.fit(fitted['age'], fitted['predicted_age'], fitted['age_width'])
    assert found is not None
    ends = [found(test['predicted_age'], test['age_width'], level) for level in LEVELS]

    def rows() -> Iterator[Sequence[str]]:
        yield 'all', *_cells(test, ends, np.ones(test.num_examples, bool))
        for name, what in (('predicted_age', 'predicted'), ('age', 'true')):
            band = metrics.age_group(test[name], BANDS)
            for k, years in enumerate(metrics.age_group_names(BANDS)):
                yield f'{what} age {years}', *_cells(test, ends, band == k)

    names = [
        f'{part} {100 * level:.0f} %' for level in LEVELS for part in ('inside of', 'width of')
    ]
    return markdown(('', 'faces', *names), rows())


def _cells(test: Rows, ends: Sequence[tuple[np.ndarray, np.ndarray]], which: np.ndarray) -> list:
    cells = [f'{which.sum():,}']
    for low, high in ends:
        inside = ((low <= test['age']) & (test['age'] <= high))[which]
        share, *limits = 100 * np.array(
            [inside.mean(), *wilson_interval(inside.sum(), len(inside))]
        )
        cells.append(f'{share:.1f} % ({limits[0]:.1f} to {limits[1]:.1f})')
        cells.append(f'{(high - low)[which].mean():.1f}')
    return cells


def gender_table() -> list[str]:
    """Shows how good probabilities of gender are, as they come and at the fitted temperature."""
    fitted, test = (read_predictions(predictions_path(DETAILED, s)) for s in ('validation', 'test'))
    temperature = calibration.fit_temperature(fitted['female_probability'], fitted['gender'])

    def rows() -> Iterator[Sequence[str]]:
        for label, value in (
            ('as they come', 1.0),
            (f'temperature {temperature:.2f}', temperature),
        ):
            probability = calibration.at_temperature(test['female_probability'], value)
            found = calibration.scores(probability, test['gender'])
            ece = calibration.calibration_error(probability, test['gender'])
            yield label, *(f'{score:.4f}' for score in (found['brier'][0], found['nll'][0], ece))

    return markdown(('', 'Brier', 'cross-entropy, nats', 'ECE'), rows())
