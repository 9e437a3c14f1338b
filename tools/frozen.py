"""Writes what benchmarks/frozen_sequence.py kept, trials on frozen features, as a table."""

from collections.abc import Mapping
from typing import Any

from tools import rows


def frozen_table(record: Mapping[str, Any]) -> list[str]:
    """Shows every trial of frozen_sequence.json: its scores, and those less the CNN alone's."""

    def row(trial: Mapping[str, Any]) -> list[str]:
        differences = []
        for kind in ('less_pooled', 'less_hidden'):
            differences += rows.difference_cells(trial[kind]) if kind in trial else ['', '']
        scores, seeds = trial['scores'], ', '.join(map(str, trial['seeds']))
        return [
            f'`{trial["model"]["sequence.stages"]}`',
            trial['name'],
            f'{trial["num_params"] / 1e6:.2f}',
            f'{trial["epochs"]} epochs, {trial["learning_rate"]:g}',
            seeds,
            rows.years(scores, 'age/mae'),
            rows.percent(scores, 'gender/accuracy'),
            *differences,
        ]

    columns = ('stages', 'recurrent part', 'parameters, millions', 'training', 'seeds', 'MAE')
    less = ('gender accuracy', 'MAE minus pooled', 'gender minus pooled')
    hidden = ('MAE minus hidden layer', 'gender minus hidden layer')
    return rows.markdown((*columns, *less, *hidden), map(row, record.get('rows', ())))
