"""Shows packages that people use today beside this project's models, on the same faces."""

from collections.abc import Iterator, Mapping, Sequence

from hybrid.scores import metrics
from tools import rows

BANDS = metrics.age_group_names('five_bin')
COLUMNS = ('', 'trained on', 'age MAE', 'CS@5', 'gender accuracy', *BANDS, 'run')


def table(
    records: Sequence[rows.Record],
    published: Mapping[str, Mapping[str, str]],
    split: str = 'test',
) -> list[str]:
    """Compares models by scores, and by the MAE in years of each band of the true age.

    Args:
      records: This project's and the packages', with their `name`.
      published: What was measured outside this project: for each label the cells by column.
      split: The split.

    Raises:
      ValueError: when they were evaluated on different examples.
    """
    rows.check_same_examples(records, split)

    def lines() -> Iterator[Sequence[str]]:
        for record in records:
            scores = record['splits'][split]['metrics']
            if record is records[0]:
                empty = [''] * (len(BANDS) + 1)
                yield 'constant predictor', '', *rows.few_cells(scores, 'constant/'), *empty
            if 'peer' in record:
                label, data = record['label'], record['peer']['trained_on']
                run = rows.describe_run(record)
            else:
                label, data = record['summary'], f'train of `{record["dataset"]["name"]}`'
                data = record.get('trained_on', data)
                run = rows.linked_commit(record)
            errors = (scores.get(f'by_age/{band}/age/mae') for band in BANDS)
            cells = ('' if error is None else f'{error:.1f}' for error in errors)
            yield label, data, *rows.few_cells(scores), *cells, run
        for label, printed in published.items():
            yield label, *(printed.get(name, '') for name in COLUMNS[1:])

    return rows.markdown(COLUMNS, lines())
