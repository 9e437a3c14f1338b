"""The table of keys."""

from hybrid import default_config
from hybrid.training import config_checks


def test_every_key_says_what_it_is_for_and_its_default_is_allowed():
    config_checks.check_config(default_config.get_config())
    for key in default_config.SCHEMA.keys.values():
        assert key.help[0].isupper(), key.name
        assert key.help.endswith('.'), key.name
        assert default_config.SCHEMA.describe(key.name).startswith(f'--config.{key.name}=')
        assert (key.default in key.all_choices()) == bool(key.choices), key.name
    for name, text in default_config.SCHEMA.sections.items():
        assert any(key.startswith(f'{name}.') for key in default_config.SCHEMA.keys), name
        assert text.endswith('.'), name
