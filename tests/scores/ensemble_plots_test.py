import itertools

import numpy as np
import pytest

from hybrid.scores import ensemble_metrics, ensemble_plots, metrics
from tests.scores.ensemble_metrics_test import make_rows
from tests.scores.plots_test import saved, texts

__all__ = ['saved']  # a fixture

LONG = 'utkface/1.0.0, test, ' + ' + '.join(f'utkface_resnet{k}_lstm' for k in range(8))


def scores(count, members):
    rows = make_rows(count, members)
    return metrics.compute_metrics(rows) | ensemble_metrics.compute_metrics(rows)


def labels(axes):
    axes.figure.canvas.draw()
    shown = [label for label in axes.get_xticklabels() if label.get_text()]
    return [(label.get_text(), label.get_window_extent()) for label in shown]


@pytest.mark.parametrize('members', [1, 4, 30])
def test_numbers_of_members_do_not_overlap_and_a_long_title_is_broken(tmp_path, saved, members):
    ensemble_plots.plot_curve(scores(40, members), tmp_path / 'curve.png', LONG)
    (figure,) = saved
    for axes in figure.axes:
        boxes = [box for _, box in labels(axes)]
        assert len(boxes) >= min(members, 10)
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    title = next(text for text in figure.texts if 'subsets' in text.get_text())
    box = title.get_window_extent()
    assert (box.x0 > 0, box.x1 < figure.bbox.x1) == (True, True)
    assert title.get_text().replace('\n', ' ') == f'{LONG} over subsets of the members'


def test_heights_are_the_scores_and_what_is_undefined_is_a_dash(tmp_path, saved):
    values = scores(4, 3)
    ensemble_plots.plot_disagreement(values, tmp_path / 'disagreement.png', 'x')
    fifths, genders = saved[0].axes
    expected = [values[f'disagreement/quintile_{q}/age/mae'] for q in range(1, 6)]
    heights = [bar.get_height() for bar in fifths.patches]
    np.testing.assert_allclose(heights, np.nan_to_num(expected))
    ticks = [text for text, _ in labels(fifths)]
    assert (
        [tick == '-' for tick in ticks] == np.isnan(expected).tolist() == 3 * [False] + [True] * 2
    )
    share = values['disagreement/gender_agreed/gender/accuracy']
    assert f'{100 * share:.1f}' in texts(saved[0])
    assert genders.patches[0].get_height() == pytest.approx(100 * share)
