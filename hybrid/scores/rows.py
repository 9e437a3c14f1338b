"""What an evaluated example has: the columns of predictions.csv, what each is and of which type.

`create` checks columns once. Whatever takes `Rows` relies on that and checks nothing again.
"""

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


class Kind(enum.Enum):
    """What a column is for."""

    IDENTITY = 'which example it is'
    LABEL = 'what is true of it, as far as that is known'
    # A column of NaN stands for what the training had no labels of.
    PREDICTION = 'what the model, or all members together, say of it'
    MEMBER = 'what one member of an ensemble says of it'
    SCORE = 'how well what is predicted fits the label'
    CONSTANT = 'what the constant predictor says of it'
    LEAK = 'whether the training has seen it'
    SUBGROUP = 'to which of several subgroups it belongs'


@dataclasses.dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
      kind: What it is for.
      dtype: float32, int64 for a gender (0 = male, 1 = female, -1 = unknown), bool or str.
      required: Whether all rows have it.
    """

    kind: Kind
    dtype: type
    required: bool = False


# Ages are in years, NaN where unknown. A number that another head predicts is declared here.
COLUMNS = {
    'id': Column(Kind.IDENTITY, str, required=True),
    'age': Column(Kind.LABEL, np.float32, required=True),
    'gender': Column(Kind.LABEL, np.int64, required=True),
    # Only where some ages are ranges, whose `age` is NaN; see `outcomes.age_bounds`.
    'age_min': Column(Kind.LABEL, np.float32),
    'age_max': Column(Kind.LABEL, np.float32),
    'predicted_age': Column(Kind.PREDICTION, np.float32, required=True),
    'female_probability': Column(Kind.PREDICTION, np.float32, required=True),
    # The training split's median age and its majority of gender, the same in every row.
    'constant_age': Column(Kind.CONSTANT, np.float32, required=True),
    'constant_gender': Column(Kind.CONSTANT, np.int64, required=True),
    # The standard deviation of a predicted distribution of ages, in years.
    'age_width': Column(Kind.PREDICTION, np.float32),
    # The ends of the prediction interval, in years; see `intervals`.
    'age_low': Column(Kind.PREDICTION, np.float32),
    'age_high': Column(Kind.PREDICTION, np.float32),
    # Of a predicted distribution of ages, in years, NaN where the age is; see `distributions.crps`.
    'age_crps': Column(Kind.SCORE, np.float32),
    # The standard deviation between members in years, and the share of members whose own gender is
    # the ensemble's.
    'age_std': Column(Kind.PREDICTION, np.float32),
    'gender_agreement': Column(Kind.PREDICTION, np.float32),
    'leak': Column(Kind.LEAK, bool),
}
# What only several members have together, and what is made of their prediction.
OF_ENSEMBLES = ('age_std', 'gender_agreement')
INTERVAL = ('age_low', 'age_high')
# What a model predicts, and each member of an ensemble, too.
OF_MODELS = tuple(
    name
    for name, column in COLUMNS.items()
    if column.kind is Kind.PREDICTION and name not in (*OF_ENSEMBLES, *INTERVAL)
)
REQUIRED = tuple(name for name, column in COLUMNS.items() if column.required)
_MEMBER = re.compile(r'member_(\d+)_(\w+)')


def member_column(number: int, name: str) -> str:
    """The column that holds what a member predicts, such as `member_3_age` for `predicted_age`."""
    return f'member_{number}_{name.removeprefix("predicted_")}'


def declared(name: str) -> Column | None:
    """Returns what is known of a column by its name; None if it can only be a subgroup's."""
    match = _MEMBER.fullmatch(name)
    if match and name in (member_column(int(match[1]), own) for own in OF_MODELS):
        return Column(Kind.MEMBER, np.float32)
    return COLUMNS.get(name)


def kind_of(name: str) -> Kind:
    """What a column is for, by its name; one that nobody has declared is a subgroup's."""
    column = declared(name)
    return column.kind if column else Kind.SUBGROUP


@dataclasses.dataclass(frozen=True, eq=False)
class Rows(Mapping[str, np.ndarray]):
    """Columns `[N]` that `create` has checked, by name, in the order in which they are written.

    Attributes:
      columns: By name.
      subgroups: Names of those that say to which subgroup an example belongs, as text; '' where
        that is unknown.
    """

    columns: Mapping[str, np.ndarray]
    subgroups: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        """The number of columns; that of examples is `num_examples`."""
        return len(self.columns)

    @property
    def num_examples(self) -> int:
        """The number N of examples."""
        return len(self.columns['id'])

    @property
    def members(self) -> list[int]:
        """Numbers of the members of an ensemble, in order; none of a single model."""
        matches = (_MEMBER.fullmatch(name) for name in self.columns if kind_of(name) is Kind.MEMBER)
        return sorted({int(match[1]) for match in matches if match})

    def take(self, which: np.ndarray) -> 'Rows':
        """Some examples, by a mask `[N]` or by their places."""
        return self._with({name: column[which] for name, column in self.columns.items()})

    def by_id(self) -> 'Rows':
        """The same examples in the order of their ids."""
        return self.take(np.argsort(self.columns['id'], kind='stable'))

    def without_leaks(self) -> 'Rows':
        """The examples that the training has not seen."""
        return self.take(~self.columns['leak']) if 'leak' in self.columns else self

    def of_member(self, number: int) -> 'Rows':
        """The same examples with what a member of the ensemble predicts, instead of all."""
        columns = {
            name: column
            for name, column in self.columns.items()
            if kind_of(name) not in (Kind.PREDICTION, Kind.MEMBER, Kind.SCORE)
        }
        for name in OF_MODELS:
            if (own := member_column(number, name)) in self.columns:
                columns[name] = self.columns[own]
        return self._with(columns)

    def replace(self, columns: Mapping[str, Any]) -> 'Rows':
        """The same examples with columns replaced or added, checked as `create` checks them."""
        return create({**self.columns, **columns}, self.subgroups)

    def _with(self, columns: dict[str, np.ndarray]) -> 'Rows':
        return dataclasses.replace(self, columns=columns)


def create(columns: Mapping[str, Any], subgroups: Sequence[str] = ()) -> Rows:
    """Checks columns and gives each the type that predictions.csv can hold exactly.

    Args:
      columns: Sequences `[N]`, at least those of `COLUMNS` that are required.
      subgroups: Which of them name a subgroup of each example, such as `ethnicity`; '' = unknown.

    Returns:
      A copy of them.

    Raises:
      ValueError: for a column that is missing, that nobody has declared, or that is declared to be
        another thing than a subgroup; for columns of different lengths, a label that is no gender,
        or a prediction that is not finite, naming the first such id.
    """
    missing = [name for name in (*REQUIRED, *subgroups) if name not in columns]
    if missing:
        raise ValueError(f'Rows lack the columns {missing}; they have {sorted(columns)}.')
    result: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        column = declared(name)
        if name in subgroups:
            if column:
                raise ValueError(
                    f'A subgroup may not be called {name!r}: that is {column.kind.value}. Give the '
                    "dataset's feature another name."
                )
            column = Column(Kind.SUBGROUP, str)
        if column is None:
            raise ValueError(
                f'Nobody knows what the column {name!r} is: declare it in hybrid/scores/rows.py, '
                'or name it as a subgroup.'
            )
        result[name] = _as_text(values) if column.dtype is str else np.asarray(values, column.dtype)
    lengths = {name: len(column) for name, column in result.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'Columns differ in length: {lengths}.')
    for name, array in result.items():
        _check_values(name, array, result['id'])
    return Rows(result, tuple(name for name in result if name in subgroups))


def _as_text(values: Any) -> np.ndarray:
    return np.array([x.decode() if isinstance(x, bytes) else str(x) for x in values], dtype=str)


def _check_values(name: str, values: np.ndarray, ids: np.ndarray) -> None:
    if kind_of(name) in (Kind.PREDICTION, Kind.MEMBER):
        ok = np.isfinite(values)
        if np.isnan(values).all():
            return  # The training had no such labels, so that nothing is predicted.
    elif values.dtype == np.int64:
        ok = np.isin(values, (-1, 0, 1))
    else:
        return
    if not ok.all():
        first = int(np.argmin(ok))
        raise ValueError(
            f'{name} of example {str(ids[first])!r} is {values[first]}: '
            f'{len(ok) - ok.sum()} of {len(ok)} rows have no valid {name}.'
        )
