import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hybrid.scores import plots, rows

PICTURES = (plots.plot_age_scatter, plots.plot_age_error_by_band, plots.plot_confusion_matrix)


def table(size, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(0, 100, size).astype(np.float32)
    return {
        'id': np.arange(size),
        'age': age,
        'gender': rng.integers(0, 2, size),
        'predicted_age': age + rng.normal(0, 7, size).astype(np.float32),
        'female_probability': rng.random(size).astype(np.float32),
        'constant_age': np.full(size, 31.0),
        'constant_gender': np.ones(size, np.int64),
    }


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda x: hasattr(x, 'get_text')) if t.get_text()]


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved, to look into."""
    figures = []
    save = plots.save

    def spy(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, 'save', spy)
    return figures


def is_picture(path):
    with Image.open(path) as image:
        image.load()
        return (
            image.format == 'PNG'
            and min(image.size) > 400
            and len(set(image.convert('L').tobytes())) > 3
        )


@pytest.mark.parametrize(
    'change',
    [
        {},
        {'age': np.full(30, np.nan)},
        {'gender': np.zeros(30, np.int64)},
        {'gender': np.full(30, -1)},
        {'constant_age': np.full(30, np.nan)},
        {'predicted_age': np.full(30, 1e20)},
    ],
    ids=['usual', 'no age', 'one gender', 'no gender', 'no constant', 'wild predictions'],
)
def test_pictures_of_odd_tables(tmp_path, change):
    for plot in PICTURES:
        plot(rows.create(table(30) | change), tmp_path / 'picture.png', 'title')
        assert is_picture(tmp_path / 'picture.png')
    assert [path.name for path in tmp_path.iterdir()] == ['picture.png']


def test_pictures_of_a_single_row_and_of_none(tmp_path):
    for size in (0, 1):
        for plot in PICTURES:
            plot(rows.create(table(size)), tmp_path / 'picture.png')
            assert is_picture(tmp_path / 'picture.png')


def test_scatter_draws_dots_and_many_examples_as_density(tmp_path, saved):
    columns = table(50)
    columns['age'][:5] = np.nan
    plots.plot_age_scatter(rows.create(columns), tmp_path / 'dots.png')
    dots = saved[0].axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(dots[:, 0], columns['age'][5:])
    np.testing.assert_allclose(dots[:, 1], columns['predicted_age'][5:], rtol=1e-6)
    columns = table(3000)
    columns['predicted_age'][:2] = 1e9
    plots.plot_age_scatter(rows.create(columns), tmp_path / 'density.png')
    assert saved[1].axes[0].collections[0].get_array().sum() == 3000
    assert '2 beyond the axes' in saved[1].axes[0].get_title()


def test_error_bars_have_hand_computed_heights(tmp_path, saved):
    columns = table(4) | {
        'age': np.array([25, 25, 75, np.nan]),
        'predicted_age': np.array([28, 24, 70, 10]),
        'constant_age': np.full(4, 31.0),
    }
    plots.plot_age_error_by_band(rows.create(columns), tmp_path / 'picture.png')
    mae, bias = (
        [round(float(bar.get_height()), 6) for bar in axes.patches if bar.get_height()]
        for axes in saved[0].axes
    )
    assert mae == [2, 5, 6, 44]
    assert bias == [1, -5]
    assert '20-29\nn = 2' in texts(saved[0])


def test_confusion_matrix_shows_counts_and_row_percentages(tmp_path, saved):
    columns = table(7) | {
        'gender': np.array([0, 0, 0, 0, 1, 1, -1]),
        'female_probability': np.array([0.1, 0.2, 0.5, 0.9, 0.9, 0.8, 0.9]),
    }
    plots.plot_confusion_matrix(rows.create(columns), tmp_path / 'picture.png')
    shown = [text.get_text() for text in saved[0].axes[0].texts]
    assert shown == ['3\n75.0 %', '1\n25.0 %', '0\n0.0 %', '2\n100.0 %']
    assert {'male\nn = 4', 'female\nn = 2'} <= set(texts(saved[0]))


def test_training_curves_of_a_run_that_was_cut_short(tmp_path, saved):
    lines = [
        {'step': 100, 'train/loss': 2.0, 'train/age_mae': 9.0, 'train/learning_rate': 0.1},
        {'step': 200, 'train/loss': None, 'train/gender_accuracy': 0.75},
        {'step': 200, 'epoch': 1.0, 'validation/age/mae': 8.0, 'validation/loss': 1.5},
        {'no step': 1},
    ]
    path = tmp_path / 'metrics.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)) + '\n[1]\n{"step": 300, "train/lo')
    plots.plot_training_curves(path, tmp_path / 'curves.png')
    assert is_picture(tmp_path / 'curves.png')
    curves = [[line.get_xydata().tolist() for line in axes.lines] for axes in saved[0].axes]
    np.testing.assert_array_equal(curves[0][0], [[100, 2], [200, np.nan]])
    assert curves[0][1] == [[200, 1.5]]
    assert curves[1] == [[[100, 9]], [[200, 8]]]
    assert curves[2] == [[[200, 75]], []]
    assert curves[3] == [[[100, 0.1]]]
    lines = [{'step': 100, 'train/age_mae': None, 'train/age_interval_error': 4.0}]
    path.write_text('\n'.join(map(json.dumps, lines)))
    plots.plot_training_curves(path, tmp_path / 'ranges.png')
    assert [line.get_xydata().tolist() for line in saved[1].axes[1].lines][-1] == [[100, 4]]
    assert saved[1].axes[1].get_ylabel() == 'age MAE, dotted: of ranges (years)'
    path.write_text('')
    plots.plot_training_curves(path, tmp_path / 'empty.png')
    assert is_picture(tmp_path / 'empty.png')


def test_matplotlib_is_imported_on_first_use():
    code = 'import sys; import hybrid.scores.report; sys.exit("matplotlib" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_a_long_title_is_broken_into_lines(tmp_path, saved):
    title = ' + '.join(['utkface_resnet18_lstm'] * 6)
    for plot in PICTURES:
        plot(rows.create(table(30)), tmp_path / 'picture.png', title)
    for figure in saved:
        box = figure.axes[0].title.get_window_extent()
        assert (box.x0 > 0, box.x1 < figure.bbox.x1) == (True, True)
        assert ' '.join(figure.axes[0].get_title().split()).startswith(title)


def test_names_may_have_any_letters(tmp_path):
    faces = [np.zeros((4, 4, 3), np.uint8)] * 6
    plots.draw_faces(faces, ['a$b_$c \u9854'] * 6, tmp_path / 'faces.png')
    assert is_picture(tmp_path / 'faces.png')
