import numpy as np
import pytest

from hybrid.scores import combination
from hybrid.scores.combination import Weights


def test_means_spread_and_agreement_by_hand():
    ages = np.array([[20.0, 30.0, 40.0], [5.0, 5.0, 5.0]])
    female = np.array([[0.9, 0.8, 0.1], [0.4, 0.3, 0.2]])
    rows = combination.combine(ages, female)
    np.testing.assert_allclose(rows['predicted_age'], [30, 5])
    np.testing.assert_allclose(rows['female_probability'], [0.6, 0.3], rtol=1e-6)
    np.testing.assert_allclose(rows['age_std'], [np.sqrt(200 / 3), 0], rtol=1e-6)
    np.testing.assert_allclose(rows['gender_agreement'], [2 / 3, 1], rtol=1e-6)
    assert {column.dtype for column in rows.values()} == {np.dtype(np.float32)}


def test_weights_shift_the_mean_and_not_the_spread():
    ages, female = np.array([[20.0, 40.0]]), np.array([[0.9, 0.2]])
    weights = Weights(age=np.array([0.25, 0.75]), gender=np.array([0.0, 1.0]))
    rows = combination.combine(ages, female, weights)
    assert rows['predicted_age'][0] == 35
    assert rows['female_probability'][0] == pytest.approx(0.2)
    assert rows['age_std'][0] == 10
    assert rows['gender_agreement'][0] == 0.5


def draw(seed=0, count=400):
    rng = np.random.default_rng(seed)
    age = rng.uniform(0, 90, count).astype(np.float32)
    gender = rng.integers(0, 2, count)
    ages = np.stack([age + rng.normal(0, s, count) for s in (4, 6, 30)], -1)
    logits = np.stack([(2 * gender - 1) * k + rng.normal(0, 1, count) for k in (2, 1, 0)], -1)
    return ages, 1 / (1 + np.exp(-logits)), age, gender


def mae(weights, ages, age):
    return np.nanmean(np.abs(ages @ weights - age))


def entropy(weights, female, gender):
    mixed = female @ weights
    right = np.where(gender == 1, mixed, 1 - mixed)
    return -np.log(right)[gender >= 0].mean()


def test_fitted_weights_are_the_best_of_a_fine_grid_on_the_simplex():
    ages, female, age, gender = draw()
    age[::7], gender[::5] = np.nan, -1
    weights = combination.fit_weights(ages, female, {'age': age, 'gender': gender})
    steps = np.linspace(0, 1, 26)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    assert mae(weights.age, ages, age) <= min(mae(w, ages, age) for w in grid) + 1e-6
    assert (
        entropy(weights.gender, female, gender)
        <= min(entropy(w, female, gender) for w in grid) + 1e-6
    )
    for values in (weights.age, weights.gender):
        assert values.min() >= 0
        assert values.sum() == pytest.approx(1, abs=1e-12)


def test_fitted_weights_are_the_best_for_ranges_too():
    ages, female, age, gender = draw()
    age[::7] = np.nan
    low, high = age.copy(), age.copy()
    low[::3], high[::3] = low[::3] - 4, high[::3] + 5
    high[::9] = np.inf
    labels = {'age': age, 'age_min': low, 'age_max': high, 'gender': gender}
    weights = combination.fit_weights(ages, female, labels).age

    def error(weights):
        mixed = ages @ weights
        return np.nanmean(np.abs(mixed - np.clip(mixed, low, high)))

    steps = np.linspace(0, 1, 26)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    assert error(weights) <= min(map(error, grid)) + 1e-6
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_without_labels_weights_are_equal():
    ages, female, age, gender = draw(count=10)
    weights = combination.fit_weights(ages, female, {'age': age * np.nan, 'gender': gender * 0 - 1})
    np.testing.assert_allclose(weights.age, 1 / 3)
    np.testing.assert_allclose(weights.gender, 1 / 3)


def test_weights_of_what_no_member_predicts_are_0():
    ages, female, age, gender = draw(count=10)
    labels = {'age': age, 'gender': gender}
    of_ages = combination.fit_weights(ages, female * np.nan, labels)
    assert of_ages.gender.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(of_ages.age, combination.fit_weights(ages, female, labels).age)
    assert combination.fit_weights(ages * np.nan, female, labels).age.tolist() == [0, 0, 0]


def test_of_members_of_which_one_is_right_all_weight_is_its():
    ages, female, age, gender = draw()
    ages[:, 1] = age
    weights = combination.fit_weights(ages, female, {'age': age, 'gender': gender})
    np.testing.assert_allclose(weights.age, [0, 1, 0], atol=1e-6)


def test_a_member_gone_wild_gets_no_weight():
    ages, female, age, gender = draw(count=50)
    ages[:, 2] = np.where(np.arange(50) % 2, 1e30, -1e25)
    weights = combination.fit_weights(ages, female, {'age': age, 'gender': gender})
    others = combination.fit_weights(ages[:, :2], female[:, :2], {'age': age, 'gender': gender})
    assert weights.age[2] == 0
    np.testing.assert_allclose(weights.age[:2], others.age, atol=1e-6)
    alone = combination.fit_weights(ages[:, 2:], female[:, 2:], {'age': age, 'gender': gender})
    assert alone.age.tolist() == [1]


def test_the_width_of_a_mixture_by_hand():
    ages, female = np.array([[20.0, 40.0], [30.0, 30.0]]), np.full((2, 2), 0.5)
    widths = np.array([[3.0, 4.0], [5.0, 5.0]])
    assert 'age_width' not in combination.combine(ages, female)
    rows = combination.combine(ages, female, widths=widths)
    # The mean square (9 + 16) / 2 and the variance of the means, 100.
    np.testing.assert_allclose(rows['age_width'], [np.sqrt(112.5), 5], rtol=1e-6)
    weights = Weights(age=np.array([0.25, 0.75]), gender=np.array([0.5, 0.5]))
    rows = combination.combine(ages, female, weights, widths)
    expected = 0.25 * (9 + 15**2) + 0.75 * (16 + 5**2)
    np.testing.assert_allclose(rows['age_width'], [np.sqrt(expected), 5], rtol=1e-6)


def test_distributions_are_mixed_and_have_the_mixtures_width():
    years = np.arange(101)
    probabilities = np.random.default_rng(5).dirichlet(np.full(101, 0.1), (4, 3))  # [N, K, years]
    ages = probabilities @ years
    widths = np.sqrt(probabilities @ years**2 - ages**2)
    weights = Weights(np.array([0.5, 0.2, 0.3]), combination.uniform(3).gender)
    rows = combination.combine(
        ages, np.full((4, 3), 0.5), weights, widths, probabilities.swapaxes(1, 2)
    )
    mixture = np.einsum('nky,k->ny', probabilities, weights.age)
    np.testing.assert_allclose(rows['age_probabilities'], mixture, rtol=1e-5)
    mean = mixture @ years
    np.testing.assert_allclose(rows['predicted_age'], mean, rtol=1e-5)
    np.testing.assert_allclose(rows['age_width'], np.sqrt(mixture @ years**2 - mean**2), rtol=1e-4)


def test_members_count_for_what_they_predict():
    nan = np.full(2, np.nan)
    ages = np.stack([[20.0, 40.0], nan, [30.0, 60.0]], axis=-1)
    female = np.stack([nan, [0.2, 0.9], [0.4, 0.5]], axis=-1)
    widths = np.stack([[3.0, 4.0], nan, [3.0, 4.0]], axis=-1)
    predicted = {'predicted_age': ages, 'female_probability': female}
    rows = combination.combine_known(predicted | {'age_width': widths})
    np.testing.assert_allclose(rows['predicted_age'], [25, 50])
    np.testing.assert_allclose(rows['age_width'], np.sqrt([9 + 25, 16 + 100]), rtol=1e-6)
    np.testing.assert_allclose(rows['female_probability'], [0.3, 0.7], rtol=1e-6)
    np.testing.assert_allclose(rows['gender_agreement'], [1, 0.5])
    weights = Weights(age=np.array([0.3, 0.6, 0.1]), gender=np.array([1.0, 0.0, 0.0]))
    rows = combination.combine_known(predicted, weights)
    np.testing.assert_allclose(rows['predicted_age'], [22.5, 45])
    # Nobody who predicts a gender has a weight: they count equally.
    np.testing.assert_allclose(rows['female_probability'], [0.3, 0.7], rtol=1e-6)
    rows = combination.combine_known({name: x[:, :1] for name, x in predicted.items()})
    np.testing.assert_array_equal(rows['predicted_age'], [20, 40])
    assert np.isnan([rows['female_probability'], rows['gender_agreement']]).all()


def test_a_member_that_predicts_nothing_gets_no_weight():
    ages, female, age, gender = draw()
    labels = {'age': age, 'gender': gender}
    without = combination.fit_weights(ages[:, 1:], female[:, :2], labels)
    ages[:, 0], female[:, 2] = np.nan, np.nan
    weights = combination.fit_weights(ages, female, labels)
    np.testing.assert_array_equal(weights.age, [0, *without.age])
    np.testing.assert_array_equal(weights.gender, [*without.gender, 0])
