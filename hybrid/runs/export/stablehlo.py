"""What is exported as StableHLO, by `jax.export`: one program for CPUs, GPUs and TPUs.

import jax

program = jax.export.deserialize(open('model.stablehlo', 'rb').read())
program.call(images)  # uint8 [B, S, S, 3]
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from hybrid.runs import trained
from hybrid.runs.calibration import Calibration
from hybrid.runs.export import network
from hybrid.runs.export.members import Member, Shares
from hybrid.scores import distributions, intervals
from hybrid.scores.outcomes import is_female
from hybrid.training.eval_step import create_predict_step

PLATFORMS = ('cpu', 'cuda', 'tpu')

Columns = dict[str, jax.Array]


def write(function: Callable[[jax.Array], Columns], size: int) -> bytes:
    """Serialises a function of faces, uint8 [batch, size, size, 3], of any batch size."""
    (batch,) = export.symbolic_shape('batch')
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    limit = jax.config.jax_traceback_in_locations_limit
    # Else the program says in which files and folders of this machine it was written.
    jax.config.update('jax_traceback_in_locations_limit', 0)
    try:
        exported = export.export(jax.jit(function), platforms=PLATFORMS)(images)
    finally:
        jax.config.update('jax_traceback_in_locations_limit', limit)
    return bytes(exported.serialize())


def create(
    members: Sequence[Member],
    shares: Shares,
    calibrated: Calibration | None,
    settings: ConfigDict,
) -> Callable[[jax.Array], Columns]:
    """The function that is exported, in float32; the arguments are those of `network.write`."""
    steps = [create_predict_step(member.network(), member.config) for member in members]

    def predict(images: jax.Array) -> Columns:
        batch = {'image': images, 'index': jnp.zeros(())}
        of_members = []
        for member, step in zip(members, steps, strict=True):
            columns = step(member.variables, batch)
            del columns['index']
            predicts = member.model.predicts
            of_members.append(
                {name: x for name, x in columns.items() if trained.kind_of(name) in predicts}
            )
        columns = of_members[0]
        if shares.together:
            columns = _combine(of_members, shares, settings.age_estimate)
        if calibrated:
            columns |= _calibrate(columns, calibrated, settings)
        return {network.NAMES.get(name, name): x for name, x in columns.items()}

    return predict


def _combine(of_members: Sequence[Columns], shares: Shares, age_estimate: str) -> Columns:
    """As `combination.combine`, of the members that predict a kind."""

    def stack(name: str) -> jax.Array | None:
        columns = [of_members[place].get(name) for place in shares.predicts[trained.kind_of(name)]]
        if not columns or any(column is None for column in columns):
            return None
        return jnp.stack([column for column in columns if column is not None], axis=-1)

    combined: Columns = {}
    if (ages := stack('predicted_age')) is not None:
        weights = jnp.asarray(shares.age, jnp.float32)
        age = jnp.sum(ages * weights, axis=-1)
        combined |= {'predicted_age': age, 'age_std': ages.std(axis=-1)}
        means, probabilities = ages, stack('age_probabilities')
        if probabilities is not None and age_estimate != 'mean':
            means = jnp.sum(probabilities * jnp.arange(probabilities.shape[1])[:, None], axis=1)
        if (widths := stack('age_width')) is not None:
            mean = jnp.sum(means * weights, axis=-1, keepdims=True)
            squares = jnp.square(widths) + jnp.square(means - mean)
            combined['age_width'] = jnp.sqrt(jnp.sum(squares * weights, axis=-1))
        if probabilities is not None:
            mixed = jnp.sum(probabilities * weights, axis=-1)
            age = distributions.estimate(mixed, age_estimate, age)
            combined |= {'predicted_age': age, 'age_probabilities': mixed}
    if (female := stack('female_probability')) is not None:
        probability = jnp.sum(female * jnp.asarray(shares.gender, jnp.float32), axis=-1)
        votes = is_female(female) == is_female(probability)[:, None]
        combined |= {
            'female_probability': probability,
            'gender_agreement': votes.astype(jnp.float32).mean(axis=-1),
        }
    return combined


def _calibrate(
    columns: Mapping[str, jax.Array], calibrated: Calibration, settings: ConfigDict
) -> Columns:
    """As `Calibration.apply`."""
    changed: Columns = {}
    if 'female_probability' in columns and settings.calibrate_gender:
        female, temperature = columns['female_probability'], calibrated.temperature
        if temperature != 1:
            # The probability of the other gender has its own floor, see `network`.
            log_female, log_male = (jnp.log(jnp.maximum(p, 1e-7)) for p in (female, 1 - female))
            cooled = jax.nn.sigmoid((log_female - log_male) / temperature)
            above = np.nextafter(np.float32(0.5), np.float32(1))
            kept = is_female(female) & ~is_female(cooled)
            changed['female_probability'] = jnp.where(kept, above, cooled)
    if 'predicted_age' in columns and (found := calibrated.intervals(settings)):
        age = columns['predicted_age']
        reach = [intervals.quantile(errors, settings.interval_level) for errors in found.errors]
        passed = age[:, None] >= jnp.asarray(found.edges, jnp.float32)
        half = jnp.asarray(reach, jnp.float32)[passed.sum(axis=-1)]
        if found.scaled:
            half *= jnp.maximum(columns['age_width'], intervals.LEAST_WIDTH)
        changed['age_low'] = jnp.maximum(age - half, 0.0)
        changed['age_high'] = jnp.minimum(age + half, intervals.OLDEST)
    return changed
