"""The metadata of a model card, as the Hugging Face hub reads them."""

import json
from collections.abc import Sequence
from typing import Any

from hybrid.datasets import terms
from hybrid.modes.pages import figures, run_record
from hybrid.modes.pages.run_record import Evaluation, Run

_METRICS = {  # What the hub is told, by its names.
    'age/mae': ('age', 'mae', 'Mean absolute error (years)'),
    'age/interval_error': ('age', 'mae', 'Years outside of ages that are ranges'),
    'age/cs5': ('age', 'cumulative_score', 'Share of errors of at most 5 years'),
    'gender/accuracy': ('gender', 'accuracy', 'Accuracy'),
}


def header(run: Run, tags: Sequence[str] = ()) -> str:
    """The metadata of the card, for the Hugging Face hub: YAML between two lines of dashes."""
    names = [one['name'] for one in run.datasets]
    links = [one.link for one in terms.together(names) if one.link]
    results = [result for one in run.evaluations for result in _results(one)]
    data: dict[str, Any] = {
        'license': 'other',
        'license_name': terms.licence_name(names) or 'terms-of-the-training-data',
        **({'license_link': links[0]} if len(links) == 1 else {}),
        'library_name': 'hybrid',
        'pipeline_tag': 'image-classification',
        'tags': ['face', 'age-estimation', 'gender-classification', 'jax', 'flax', *tags],
        'datasets': list(
            dict.fromkeys(name.removeprefix('face_csv/').split('/')[0] for name in names)
        ),
        'metrics': ['mae', 'accuracy'],
    }
    if results:
        data['model-index'] = [{'name': run.name, 'results': results}]
    # JSON is YAML, but for its escapes of what lies beyond the basic plane.
    lines = [f'{key}: {json.dumps(data[key], ensure_ascii=False)}' for key in data if data[key]]
    return '\n'.join(['---', *lines, '---', ''])


def _results(evaluation: Evaluation) -> list[dict[str, Any]]:
    """An evaluation as the hub's model index has it, for ages and for genders."""
    name, _, config = run_record.short(evaluation.dataset).partition('/')
    results = []
    for kind, task in (('age', 'Age estimation from a face'), ('gender', 'Gender of a face')):
        metrics = [
            {'type': type_, 'name': label, 'value': round(float(evaluation.scores[score]), 4)}
            for score, (of, type_, label) in _METRICS.items()
            if of == kind and figures.known(evaluation.scores, score)
        ]
        if metrics:
            dataset = {'type': name, 'name': terms.of(evaluation.dataset).title}
            dataset |= {'config': config} if config else {}
            results.append(
                {
                    'task': {'type': 'image-classification', 'name': task},
                    'dataset': dataset | {'split': evaluation.split},
                    'metrics': metrics,
                }
            )
    return results
