from tools import frozen


def test_a_trial_is_shown_with_its_differences_to_the_cnn_alone():
    less = {
        f'{name}{end}': scale * value
        for name, scale in (('age/mae', 1), ('gender/accuracy', 0.01))
        for end, value in (('', -0.5), ('_ci95_low', -0.75), ('_ci95_high', 0.25))
    }
    pooled = {
        'name': 'pooled',
        'model': {'sequence.stages': 'layer4'},
        'seeds': [0, 1],
        'num_params': 6147,
        'epochs': 5,
        'learning_rate': 1e-3,
        'scores': {'age/mae': 8.5, 'gender/accuracy': 0.8125},
    }
    other = pooled | {'name': 'LSTM', 'seeds': [1], 'num_params': 2361091, 'less_pooled': less}
    *_, first, second = frozen.frozen_table({'rows': [pooled, other]})
    assert (
        first == '| `layer4` | pooled | 0.01 | 5 epochs, 0.001 | 0, 1 | 8.50 | 81.2 |  |  |  |  |'
    )
    difference = '-0.50 (-0.75 to +0.25) | -0.50 (-0.75 to +0.25)'
    assert (
        second
        == f'| `layer4` | LSTM | 2.36 | 5 epochs, 0.001 | 1 | 8.50 | 81.2 | {difference} |  |  |'
    )
