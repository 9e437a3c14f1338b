"""The examples of an evaluation on which a model errs most."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from hybrid.data import prepared, records, several
from hybrid.modes.pages.blocks import Block, Code, Paragraph, Picture, Pictures, Table, Text
from hybrid.modes.pages.run_record import Evaluation
from hybrid.scores import outcomes
from hybrid.scores.rows import Rows

_SIDE = 200  # Pixels of a face on the page, at most.
Faces = Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class Worst:
    """Rows of an evaluation by their errors, the worst first: places [M] of ages, of genders."""

    rows: Rows
    ages: np.ndarray
    genders: np.ndarray

    @property
    def ids(self) -> list[str]:
        """The ids of all of them, each once."""
        places = np.concatenate([self.ages, self.genders])
        return list(dict.fromkeys(self.rows['id'][places].tolist()))


def find(rows: Rows, count: int) -> Worst:
    """Finds the largest errors of age, and the genders of which the model was most wrongly sure."""
    error = outcomes.absolute_age_error(rows['predicted_age'], *outcomes.age_bounds(rows))
    order = np.argsort(-error, kind='stable')  # What is not known, NaN, comes last.
    ages = order[: min(count, np.count_nonzero(error > 0))]
    female = rows['female_probability']
    wrong = outcomes.is_scored(female, rows['gender']) & ~outcomes.is_right(female, rows['gender'])
    order = np.argsort(-np.where(wrong, np.abs(female - 0.5), -1), kind='stable')
    return Worst(rows, ages, order[: min(count, np.count_nonzero(wrong))])


def blocks(found: Worst, faces: Faces | None = None) -> list[Block]:
    """The worst errors as tables or, with faces, as pictures with captions."""
    parts: list[Block] = []
    for title, places in (
        ('The largest errors of age:', found.ages),
        ('Wrong genders, those of which the model was surest first:', found.genders),
    ):
        if not len(places):
            continue
        parts.append(Paragraph(title))
        if faces is None:
            parts.append(_table(found.rows, places))
        else:
            shown = [
                Picture(faces[example], [_said(found.rows, k), ', ', Code(example)], 'jpeg')
                for k in places
                if (example := str(found.rows['id'][k])) in faces
            ]
            parts.append(Pictures(shown, small=True))
    return parts


def _table(rows: Rows, places: np.ndarray) -> Table:
    lines: list[Sequence[Text]] = []
    for k in places:
        others = [rows[name][k] for name in rows.subgroups]
        lines.append([Code(rows['id'][k]), _truth(rows, k), *map(str, others), *_estimate(rows, k)])
    head = ['example', 'true', *rows.subgroups, 'estimated age', 'probability of female']
    return Table(head, lines, num_names=2 + len(rows.subgroups))


def _truth(rows: Rows, k: int) -> str:
    low, high = (float(bound[k]) for bound in outcomes.age_bounds(rows))
    age = 'age unknown' if np.isnan(low) else outcomes.age_text(low, high)
    return f'{age}, {(*outcomes.GENDERS, "gender unknown")[rows["gender"][k]]}'


def _estimate(rows: Rows, k: int) -> tuple[str, str]:
    age, female = rows['predicted_age'][k], rows['female_probability'][k]
    text = '-' if np.isnan(age) else f'{age:.1f}'
    if 'age_low' in rows and not np.isnan(rows['age_low'][k]):
        text += f' ({rows["age_low"][k]:.0f} to {rows["age_high"][k]:.0f})'
    return text, '-' if np.isnan(female) else f'{100 * female:.1f} %'


def _said(rows: Rows, k: int) -> str:
    age, female = _estimate(rows, k)
    return f'{_truth(rows, k)}; estimated {age}, female {female}'


def read_faces(
    evaluation: Evaluation, ids: Sequence[str], sections: Sequence[ConfigDict]
) -> Faces | None:
    """Reads faces from the prepared dataset, as JPEG files.

    Args:
      evaluation: Which dataset and split.
      ids: Of the examples.
      sections: The `config.data` of the run, and others that may know the dataset or its folder.

    Returns:
      The files by id; None if it is a dataset of which these know nothing.

    Raises:
      FileNotFoundError: when a dataset of the run is not prepared.
    """
    folders = [section.data_dir for section in sections[::-1] if section.data_dir] + ['']
    for section in (part for whole in sections for part in several.sections(whole)):
        builder = prepared.find_prepared(section, folders)
        if builder is not None and builder.info.full_name == evaluation.dataset:
            break
    else:
        if not evaluation.own:
            return None
        raise FileNotFoundError(
            f'--faces: {evaluation.dataset} is not prepared in '
            f'{" or ".join(folders[:-1]) or "the default folder of TFDS"}; '
            '--config.data.data_dir=DIR names its folder'
        )
    columns = records.read_columns(builder, evaluation.split)
    images = records.read_images(builder, evaluation.split, columns, ids)
    faces = {}
    for name, pixels in images.items():
        image = Image.fromarray(pixels)
        image.thumbnail((_SIDE, _SIDE))
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=90)
        faces[name] = file.getvalue()
    return faces
