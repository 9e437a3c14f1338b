from types import SimpleNamespace
from typing import Any

import numpy as np

from hybrid.runs import predictions
from hybrid.scores import combination


def model(kind: str, **columns: np.ndarray) -> Any:
    """A model that predicts 30 years and a male face, four times."""
    rows = {
        'index': np.arange(4),
        'predicted_age': np.full(4, 30.0),
        'female_probability': np.full(4, 0.25),
        **columns,
    }
    learner = SimpleNamespace(is_ensemble=False, members=(0,))
    return SimpleNamespace(learner=learner, predicts=(kind,), frozen=(), rows=rows)


def predict(*models):
    def rows(one: Any) -> dict[str, np.ndarray]:
        return {name: column.copy() for name, column in one.rows.items()}

    builder: Any = None
    return predictions.predict_members(models, builder, '', rows)


def test_a_model_of_genders_needs_no_age_head_like_that_of_the_ages():
    """Else the two together would have no distribution, and so another estimate of age."""
    years = np.tile(0.6 * np.eye(101)[40] + 0.4 * np.eye(101)[20], (4, 1))
    ages = model('age', age_width=np.full(4, 9.8), age_probabilities=years)
    for models in ([ages, model('gender')], [model('gender'), ages]):
        found, members = predict(*models)
        assert members == [0, 1]
        combined = combination.combine_known(found, age_estimate='mode')
        assert combined['predicted_age'].tolist() == [40] * 4
        assert combined['female_probability'].tolist() == [0.25] * 4
        assert np.isfinite(combined['age_width']).all()


def test_where_one_model_predicts_ages_without_a_width_both_have_none():
    found, _ = predict(model('age', age_width=np.ones(4)), model('age'))
    assert found['predicted_age'].shape == (4, 2)
    assert 'age_width' not in found
