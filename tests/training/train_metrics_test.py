"""The running averages of training, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid.training import train_metrics, train_step


def predictions_and_batch(size=48, padding=5):
    """Predictions and a batch whose unknown labels all lie in its first half."""
    rng = np.random.default_rng(0)
    age = rng.integers(1, 90, size).astype(np.float32)
    gender = rng.integers(0, 2, size).astype(np.int32)
    age[: size // 4] = np.nan  # All of the first of four devices.
    gender[size // 4 : size // 2 - 1] = -1
    mask = (np.arange(size) < size - padding).astype(np.float32)
    predictions = {
        'predicted_age': rng.uniform(0, 80, size).astype(np.float32),
        'female_probability': rng.uniform(size=size).astype(np.float32),
    }
    return predictions, {'age': age, 'gender': gender, 'mask': mask}


def collect(predictions, batch):
    # Stands for a loss; NaN where the age is unknown and wherever there is padding.
    padding = jnp.where(batch['mask'] > 0, 0, jnp.nan)
    values = train_metrics.example_values(predictions, batch)
    age_loss = (predictions['predicted_age'] - batch['age']) ** 2 + padding
    gender_loss = predictions['female_probability'] ** 2 + padding
    values['age_loss'] = age_loss, values['age_mae'][1]
    values['gender_loss'] = gender_loss, values['gender_accuracy'][1]
    return train_metrics.weighted_sums(values)


def average(*sums):
    return train_step.average([{'sums': s} for s in sums])


def expected_averages(predictions, batch):
    valid = batch['mask'] > 0
    old, sex = valid & ~np.isnan(batch['age']), valid & (batch['gender'] >= 0)
    error = predictions['predicted_age'][old].astype(np.float64) - batch['age'][old]
    female = predictions['female_probability'][sex].astype(np.float64)
    averages = {
        'age_loss': np.mean(error**2),
        'gender_loss': np.mean(female**2),
        'age_mae': np.mean(np.abs(error)),
        'gender_accuracy': np.mean((female > 0.5) == batch['gender'][sex]),
    }
    return averages, old.sum(), sex.sum()


@pytest.mark.parametrize('num_devices', [1, 2, 4])
@pytest.mark.parametrize('batch_size', [12, 24, 48])
def test_train_metrics_agree_over_devices_and_batch_sizes(num_devices, batch_size):
    predictions, batch = predictions_and_batch()
    averages, num_ages, num_genders = expected_averages(predictions, batch)

    def step(predictions, batch):
        return jax.lax.psum(collect(predictions, batch), 'batch')

    pmapped = jax.pmap(step, axis_name='batch', out_axes=None, devices=jax.devices()[:num_devices])
    steps = []
    for start in range(0, 48, batch_size):
        part = jax.tree.map(
            lambda x, start=start: x[start : start + batch_size].reshape(
                num_devices, -1, *x.shape[1:]
            ),
            (predictions, batch),
        )
        steps.append(jax.device_get(pmapped(*part)))
    for kind, number in (('age', num_ages), ('gender', num_genders)):
        assert sum(step[f'{kind}_loss'][1] for step in steps) == number
    computed = average(*steps)
    assert set(computed) == set(averages)
    for name, value in averages.items():
        assert float(computed[name]) == pytest.approx(value, rel=1e-5), name


def test_train_metrics_on_a_single_device():
    predictions, batch = predictions_and_batch()
    averages, _, _ = expected_averages(predictions, batch)
    computed = average(jax.jit(collect)(predictions, batch))
    assert {k: float(v) for k, v in computed.items()} == pytest.approx(averages, rel=1e-5)


def test_train_metrics_over_no_known_label_are_nan_without_a_warning():
    predictions, batch = predictions_and_batch()
    batch |= {'age': np.full(48, np.nan, np.float32)}
    computed = average(collect(predictions, batch))
    assert np.isnan(computed['age_mae'])
    assert np.isnan(computed['age_loss'])
    assert np.isfinite(computed['gender_accuracy'])


def test_example_values_are_finite_and_hand_computed():
    predictions = {
        'predicted_age': jnp.array([10, 20, 30, 40, 50], jnp.float32),
        'female_probability': jnp.array([0.7, 0.7, 0.3, 0.5, 0.5], jnp.float32),
    }
    batch = {
        'age': jnp.array([13, jnp.nan, 28, 0, jnp.nan], jnp.float32),
        'age_min': jnp.array([13, jnp.nan, 28, 0, 60], jnp.float32),
        'age_max': jnp.array([13, jnp.nan, 28, 9, jnp.inf], jnp.float32),
        'gender': jnp.array([1, 0, -1, 0, 0], jnp.int32),
        'mask': jnp.array([1, 1, 1, 0, 1], jnp.float32),
    }
    values = jax.tree.map(
        np.ndarray.tolist, jax.device_get(train_metrics.example_values(predictions, batch))
    )
    assert values == {
        'age_mae': ([3, 0, 2, 0, 0], [1, 0, 1, 0, 0]),
        'age_interval_error': ([0, 0, 0, 0, 10], [0, 0, 0, 0, 1]),  # The fourth is padding.
        'gender_accuracy': ([1, 0, 0, 0, 1], [1, 1, 0, 0, 1]),  # A tie is male.
    }
