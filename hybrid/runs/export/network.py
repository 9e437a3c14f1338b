"""What is exported as one ONNX graph: views of each face, members, combination and calibration."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from hybrid.data import augment
from hybrid.models import heads as model_heads
from hybrid.models.recurrent import Recurrent
from hybrid.runs import trained
from hybrid.runs.calibration import Calibration
from hybrid.runs.export import encoders, heads, sequences, views
from hybrid.runs.export.graph import Graph
from hybrid.runs.export.members import Member, Shares
from hybrid.scores import intervals

IMAGE = 'image'
# By which names the columns of predictions are outputs of an export; the others keep theirs.
NAMES = {'predicted_age': 'age'}


def write(
    graph: Graph,
    members: Sequence[Member],
    shares: Shares,
    calibrated: Calibration | None,
    settings: ConfigDict,
) -> dict[str, str]:
    """Writes the whole function.

    Args:
      graph: Where it goes.
      members: The networks.
      shares: How they are combined.
      calibrated: What validation says of the predictions.
      settings: `config.evaluate`.

    Returns:
      The value of each output, by its name.

    Raises:
      ValueError: when an encoder or a head cannot be written.
    """
    of_data: dict[str, str] = {}
    of_members = []
    for member in members:
        # Members that see the same views share them.
        key = repr((views.describe(member.config), member.config.data.normalization))
        if key not in of_data:
            of_data[key] = _images(graph, member.config)
        columns = _network(graph, member, of_data[key])
        of_members.append(
            {n: x for n, x in columns.items() if trained.kind_of(n) in member.model.predicts}
        )
    columns = of_members[0]
    if shares.together:
        columns = _combine(graph, of_members, shares, settings.age_estimate)
    if calibrated:
        columns |= _calibrate(graph, columns, calibrated, settings)
    return {NAMES.get(name, name): value for name, value in columns.items()}


def _images(graph: Graph, config: ConfigDict) -> str:
    """All views of the faces as the network wants them: [V * B, 3, S, S] in `graph.dtype`."""
    size, resized = config.data.image_size, config.data.resize_size
    x = graph.op('Transpose', graph.cast(IMAGE, np.float32), perm=[0, 3, 1, 2])
    x = graph.op('Div', x, graph.constant(255))
    border = (resized - size) // 2
    cropped = x
    for axis in (2, 3) if border else ():
        cropped = graph.slice(cropped, axis, border, border + size)
    of_views = [cropped]
    for matrix in views.matrices(config)[1:]:
        down = graph.op('MatMul', graph.constant(matrix), x)
        of_views.append(graph.op('MatMul', down, graph.constant(matrix.T)))
    if config.evaluate.flip_average:
        of_views += [graph.slice(view, 3, -1, -(2**31), -1) for view in of_views]
    x = graph.op('Concat', *of_views, axis=0) if len(of_views) > 1 else of_views[0]
    return graph.cast(_normalize(graph, x, config.data.normalization), graph.dtype)


def _normalize(graph: Graph, x: str, normalization: str) -> str:
    """As `augment.normalize`, of [B, 3, S, S]."""
    if normalization == 'unit':
        return x
    if normalization == 'symmetric':
        return graph.op('Sub', graph.op('Mul', x, graph.constant(2)), graph.constant(1))
    if normalization == 'imagenet':
        mean, deviation = (
            graph.constant(np.reshape(values, (3, 1, 1)))
            for values in (augment.IMAGENET_MEAN, augment.IMAGENET_STD)
        )
        return graph.op('Div', graph.op('Sub', x, mean), deviation)
    if normalization == 'standardize':
        x = graph.op('Sub', x, graph.mean(x, 1, 2, 3, keepdims=True))
        variance = graph.mean(graph.square(x), 1, 2, 3, keepdims=True)
        deviation = graph.op('Max', graph.op('Sqrt', variance), graph.constant(1 / 255))
        return graph.op('Div', x, deviation)
    raise ValueError(f'config.data.normalization={normalization!r} cannot be exported as ONNX')


def _network(graph: Graph, member: Member, images: str) -> heads.Columns:
    config, model = member.config, member.network()
    params, stats = member.variables['params'], member.variables.get('batch_stats', {})
    of_encoder = {'params': params['encoder'], 'batch_stats': stats.get('encoder', {})}
    size, name = config.data.image_size, member.name
    maps = encoders.write(graph, model.encoder, of_encoder, f'{name}.encoder', images, size)
    assert isinstance(model.recurrent, Recurrent)
    of_patches = params.get('patches', {})
    of_sequences = [
        sequences.write(
            graph, model.recurrent, params.get('recurrent', {}), f'{name}.recurrent', sequence
        )
        for sequence in sequences.patches(graph, model.patches, of_patches, f'{name}.patches', maps)
    ]
    features = graph.op('Concat', *of_sequences, axis=-1)
    count = views.count(config)
    columns: heads.Columns = {}
    for part, head in (('age_head', model.age_head), ('gender_head', model.gender_head)):
        of_head = heads.Features(graph, f'{name}.{part}', params[part], features, count)
        columns |= heads.write(head, of_head, config.evaluate.age_estimate)
    return columns


def _combine(
    graph: Graph, of_members: Sequence[heads.Columns], shares: Shares, age_estimate: str
) -> heads.Columns:
    """As `combination.combine`, of the members that predict a kind."""

    def stack(name: str) -> str | None:
        """[B, ..., K] of the members that predict its kind; None where one has no such column."""
        places = shares.predicts[trained.kind_of(name)]
        columns = [of_members[place].get(name, '') for place in places]
        if not all(columns) or not columns:
            return None
        columns = [graph.op('Unsqueeze', x, graph.integers(-1)) for x in columns]
        return graph.op('Concat', *columns, axis=-1)

    def weigh(x: str, weights: np.ndarray) -> str:
        return graph.sum(graph.op('Mul', x, graph.constant(weights)), -1)

    combined: heads.Columns = {}
    if ages := stack('predicted_age'):
        age = combined['predicted_age'] = weigh(ages, shares.age)
        spread = graph.square(graph.op('Sub', ages, graph.mean(ages, -1, keepdims=True)))
        combined['age_std'] = graph.op('Sqrt', graph.mean(spread, -1))
        means, probabilities = ages, stack('age_probabilities')
        if probabilities and age_estimate != 'mean':
            years = graph.constant(np.arange(model_heads.YEARS)[:, None])
            means = graph.sum(graph.op('Mul', probabilities, years), 1)
        if widths := stack('age_width'):
            mean = graph.op('Unsqueeze', weigh(means, shares.age), graph.integers(-1))
            away = graph.op('Sub', means, mean)
            squares = graph.op('Add', graph.square(widths), graph.square(away))
            combined['age_width'] = graph.op('Sqrt', weigh(squares, shares.age))
        if probabilities:
            mixed = combined['age_probabilities'] = weigh(probabilities, shares.age)
            combined['predicted_age'] = heads.estimate(graph, mixed, age_estimate, age)
    if female := stack('female_probability'):
        probability = combined['female_probability'] = weigh(female, shares.gender)
        together = _is_female(graph, graph.op('Unsqueeze', probability, graph.integers(-1)))
        votes = graph.cast(graph.op('Equal', _is_female(graph, female), together), np.float32)
        combined['gender_agreement'] = graph.mean(votes, -1)
    return combined


def _is_female(graph: Graph, probability: str) -> str:
    return graph.op('Greater', probability, graph.constant(0.5))


def _calibrate(
    graph: Graph, columns: heads.Columns, calibrated: Calibration, settings: ConfigDict
) -> heads.Columns:
    """As `Calibration.apply`."""
    changed: heads.Columns = {}
    female, temperature = columns.get('female_probability'), calibrated.temperature
    if female and settings.calibrate_gender and temperature != 1:
        changed['female_probability'] = at_temperature(graph, female, temperature)
    if 'predicted_age' in columns and (found := calibrated.intervals(settings)):
        ends = _interval(graph, columns, found, settings.interval_level)
        changed |= dict(zip(('age_low', 'age_high'), ends, strict=True))
    return changed


def at_temperature(graph: Graph, female: str, temperature: float) -> str:
    """As `scores.calibration.at_temperature`.

    The probability of the other gender has its own floor: from near 1 float32 cannot tell it.
    """
    male = graph.op('Sub', graph.constant(1), female)
    floor = graph.constant(1e-7)
    logs = [graph.op('Log', graph.op('Max', p, floor)) for p in (female, male)]
    logits = graph.op('Div', graph.op('Sub', *logs), graph.constant(temperature))
    cooled = graph.op('Sigmoid', logits)
    lost = graph.op('Not', _is_female(graph, cooled))
    kept = graph.op('And', _is_female(graph, female), lost)
    above = graph.constant(np.nextafter(np.float32(0.5), np.float32(1)))
    return graph.op('Where', kept, above, cooled)


def _interval(
    graph: Graph, columns: heads.Columns, found: intervals.Intervals, level: float
) -> tuple[str, str]:
    """As `Intervals.__call__`."""
    age = columns['predicted_age']
    half = graph.constant([intervals.quantile(errors, level) for errors in found.errors])
    if found.edges:
        edges = graph.constant(found.edges)
        passed = graph.op('GreaterOrEqual', graph.op('Unsqueeze', age, graph.integers(-1)), edges)
        half = graph.op('Gather', half, graph.sum(graph.cast(passed, np.int64), -1), axis=0)
    if found.scaled:
        floor = graph.constant(intervals.LEAST_WIDTH)
        half = graph.op('Mul', half, graph.op('Max', columns['age_width'], floor))
    low = graph.op('Max', graph.op('Sub', age, half), graph.constant(0))
    return low, graph.op('Min', graph.op('Add', age, half), graph.constant(intervals.OLDEST))


def shapes(outputs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shape that each output has for one face."""
    years = (model_heads.YEARS,)
    return {name: years if name == 'age_probabilities' else () for name in outputs}
