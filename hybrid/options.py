r"""The options of the command line, and the configs that they name.

Train and evaluate on drawn faces; prepare UTKFace, train on it, evaluate again, predict:

  python launch.py
  python launch.py --mode=prepare --config=utkface_resnet18_lstm --config.data.manual_dir=DIR
  python launch.py --config=utkface_resnet18_lstm --workdir=W --config.train.batch_size=128
  python launch.py --mode=evaluate --workdir=W --split=test --checkpoint=best
  python launch.py --mode=evaluate --workdir=W --split=test --conditions
  python launch.py --mode=predict --workdir=W --input=PHOTOS --detect --output=predictions.csv

Compute scores from the predictions of an evaluation, or of another program:

  python launch.py --mode=score --input=W/evaluation/test/predictions.csv --output=scores

Try a model in the browser, on this machine alone:

  python launch.py --mode=demo --workdir=W

Export a model for use without this program, as ONNX and in other forms:

  python launch.py --mode=export --workdir=W --output=export

Cut faces out of photographs, to label them and train on them:

  python launch.py --mode=crop --input=PHOTOS --output=FACES

Write a report that compares runs; describe a model in a model card:

  python launch.py --mode=report --workdir=W,V --output=report.html
  python launch.py --mode=report --workdir=W --output=model_card.md

Find leaks between the splits of a dataset, and labels that look wrong:

  python launch.py --mode=audit --config.data.dataset=utkface --config.data.manual_dir=DIR
  python launch.py --mode=audit --config.data.dataset=utkface --config.data.manual_dir=DIR \
      --input=W/evaluation/validation/predictions.csv

Evaluate a model on a dataset other than its own:

  python launch.py --mode=evaluate --workdir=W --config.data.dataset=face_csv/mine \
      --config.data.manual_dir=FACES

Start from ImageNet weights, or from an earlier run:

  python launch.py --config=utkface_resnet18_lstm_imagenet --workdir=W \
      --config.model.encoder.pretrained=resnet18.safetensors
  python launch.py --config=utkface_resnet18_lstm --workdir=V --config.init_from=W

Train an ensemble, combine finished runs, split an ensemble into single models:

  python launch.py --config=ensemble_quickstart --workdir=E
  python launch.py --mode=evaluate --workdir=A,B,C
  python launch.py --mode=unstack --workdir=E --output=members
"""

import json
import pathlib
import re
import sys
import textwrap
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from hybrid import files, recipes
from hybrid.data import several
from hybrid.default_config import SCHEMA, get_config
from hybrid.runs import provenance
from hybrid.training.config_checks import check_config

FLAGS = flags.FLAGS
flags.DEFINE_string(
    'config',
    'quickstart',
    'A recipe: the name of one that comes with the program, or a file. --config.KEY=VALUE changes '
    'a key of it or, in modes that read a workdir, of the config in the workdir.',
)
flags.DEFINE_string(
    'workdir',
    '',
    "The run's folder. In training the default is runs/<name of the recipe>. With evaluate, "
    'predict, export, demo and stack several, separated by commas, are combined; with report they '
    'are compared.',
)
flags.DEFINE_enum(
    'mode',
    'train',
    [
        *('prepare', 'train', 'evaluate', 'score', 'report', 'predict', 'export', 'crop'),
        *('audit', 'demo', 'unstack', 'stack'),
    ],
    'prepare: prepare the dataset. train: train or continue, then evaluate. '
    "evaluate: evaluate a workdir's checkpoint on --split. "
    'score: compute scores and plots from predictions, the table --input. '
    'report: write a page about a run, or one that compares several, or a model card. '
    'predict: predict age and gender for the image and video files of --input. '
    'export: write the model as ONNX and in other forms to --output, for use without this program. '
    'demo: serve a page in the browser that shows predictions for photographs. '
    'crop: cut the faces out of the photographs of --input, align them, and write them with a '
    'table to --output. '
    "audit: find what a dataset's splits share, how their labels are distributed and, with "
    '--input, which labels look wrong. '
    'unstack: write each member of an ensemble to a workdir of its own in --output. '
    'stack: combine the models of several workdirs into one ensemble, the workdir --output.',
)
flags.DEFINE_string('split', 'test', 'evaluate: which split of the dataset.')
flags.DEFINE_bool(
    'conditions',
    False,
    'evaluate: also under 20 conditions, such as blur or different light, in five strengths each.',
)
flags.DEFINE_enum(
    'checkpoint',
    'best',
    ['best', 'last'],
    'evaluate, predict, export, demo, stack, unstack: which checkpoint.',
)
flags.DEFINE_string(
    'input',
    '',
    'predict, crop: an image or video file, or a folder that is searched for them. score: a table '
    'of predictions and labels (.csv or .csv.gz). audit: the predictions.csv of one or more '
    'evaluations, separated by commas, from which labels that look wrong are found.',
)
flags.DEFINE_string(
    'output',
    '',
    'predict: the .csv or .jsonl file to write. evaluate: the folder for the results, by default '
    'the workdir. report: the .html file of the report, or the .md file of the model card. audit: '
    'the folder for the report, by default in runs/audit. score, export, crop, unstack, '
    'stack: the folder to make.',
)
flags.DEFINE_bool(
    'detect',
    False,
    'predict: find the faces in photographs and videos; without it images must be face crops.',
)
flags.DEFINE_bool(
    'faces',
    False,
    'report: show the faces with the largest errors, for your own eyes, not only their ids.',
)
flags.DEFINE_string(
    'draw', '', 'predict: a folder for pictures and videos with boxes and predictions drawn in.'
)
flags.DEFINE_integer('port', 7860, 'demo: the port on 127.0.0.1.', lower_bound=0, upper_bound=65535)
flags.DEFINE_bool(
    'overwrite_config', False, 'train: continue although the workdir has another config.'
)
flags.DEFINE_string(
    'coordinator',
    '',
    'Several processes: host:port of process 0; "auto" lets JAX find out, as on TPU '
    'pods. Not needed under srun, mpirun or torchrun.',
)
flags.DEFINE_integer('num_processes', 0, 'Several processes: how many, with --coordinator.')
flags.DEFINE_integer('process_id', -1, 'Several processes: which one this is, from 0.')
flags.DEFINE_bool('debug', False, 'Show the whole traceback of an error.')

_HELP = re.compile(r'--?(?:help|helpshort|helpfull|h|\?)(?:=(?:--)?(?:config\.)?(.*))?')
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)(=.*)?', re.DOTALL)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line but for the changes of the config, `--config.KEY=VALUE`.

    Returns:
      The changes, each as one word.
    """
    try:
        for argument in argv[1:]:
            if match := _HELP.fullmatch(argument):
                _show_help(match[1] or '')
                sys.exit(0)
        for name in FLAGS:
            FLAGS[name].unparse()  # A notebook may have started the program before.
        rest, changes = _split(FLAGS.read_flags_from_files(argv, force_gnu=False))
        unexpected = FLAGS(rest)[1:]
    except (ValueError, flags.Error) as error:
        sys.exit(f'error: {" ".join(str(error).split())}')
    if unexpected:
        sys.exit(f'error: {unexpected[0]}: unexpected argument; options are written --name=value')
    return changes


def load_configs(changes: list[str]) -> tuple[list[ConfigDict], list[pathlib.Path]]:
    """Finds the configs and workdirs that the flags name: one of each, or several that match.

    Raises:
      FileNotFoundError: if there is no such recipe, or no config in a workdir.
      ValueError: if a config is wrong, or the flags do not go together.
    """
    from hybrid.runs import workdir

    try:
        config = recipes.get_config(FLAGS.config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'--config={error}') from None
    changed = _apply(config, changes)
    configs = [config]
    folders = [files.expanded(name) for name in FLAGS.workdir.split(',')]
    if FLAGS.mode not in ('prepare', 'train', 'audit', 'crop', 'score'):
        if not FLAGS.workdir:
            raise ValueError(f'--mode={FLAGS.mode} needs --workdir, the folder of a training')
        if not all(FLAGS.workdir.split(',')):
            raise ValueError(f'--workdir={FLAGS.workdir}: a comma without a workdir beside it')
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise ValueError(f'--workdir={FLAGS.workdir} names a workdir twice')
    if FLAGS.mode in ('report', 'score'):
        return configs, folders  # Reports read the workdirs' configs as they are, scores none.
    if FLAGS.mode not in ('prepare', 'train', 'audit', 'crop'):
        configs = [workdir.load_config(folder, get_config()) for folder in folders]
        for config in configs:
            # The workdir holds what was chosen on the machine that trained it.
            config.model.kernels = 'auto'
            before = config.data.copy_and_resolve_references()
            config.update_from_flattened_dict(changed)
            several.settle(config.data, before, changed)
    elif not FLAGS.workdir:
        folders = [pathlib.Path('runs') / pathlib.Path(FLAGS.config).stem]
    if len(folders) > 1 and FLAGS.mode not in ('evaluate', 'predict', 'export', 'demo', 'stack'):
        raise ValueError(f'--mode={FLAGS.mode} takes one --workdir, not {len(folders)}')
    for config in configs:
        check_config(config)
    return configs, folders


def _show_help(topic: str) -> None:
    """Prints how the program is used or, given a topic, what a section or a key of a config is."""
    if topic:
        print(SCHEMA.describe(topic))
        return
    program = provenance.program()
    _, _, usage = (__doc__ or '').partition('\n\n')
    names = textwrap.indent(textwrap.fill(', '.join(recipes.names()), 98), '  ')
    # In one piece, so that a reader who stops early, such as `head`, causes no error.
    print(
        f'{usage.replace("python launch.py", program)}\n'
        f'Flags:\n{FLAGS.module_help(sys.modules[__name__])}\n'
        f'Recipes, --config=NAME:\n\n{names}\n\n'
        f'Sections of the config and keys outside of them, --config.SECTION.KEY=VALUE:\n\n'
        f'{SCHEMA.overview()}\n\n'
        f'{program} --help=train.batch_size explains a key, --help=train a whole section.'
    )


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Parts the changes of a config from the rest of a command line.

    Returns:
      The rest, and the changes: each one word, `--config.KEY=VALUE` also for two words.

    Raises:
      ValueError: for a key that there is not; names the nearest.
    """
    rest, overrides = [], []
    arguments = iter(argv)
    for argument in arguments:
        match = _OVERRIDE.fullmatch(argument)
        if not match:
            rest.append(argument)
            continue
        name, value = match.groups()
        if problem := SCHEMA.wrong_name(name, '--config.'):
            raise ValueError(f'{argument}: {problem}')
        is_switch = name in SCHEMA.keys and isinstance(SCHEMA.keys[name].default, bool)
        if value is None and not is_switch:
            argument += f'={next(arguments, "")}'
        if name in SCHEMA.keys and isinstance(SCHEMA.keys[name].default, dict):
            argument = _to_literal(argument)
        overrides.append(f'--{argument.lstrip("-")}')
    return rest, overrides


def _to_literal(argument: str) -> str:
    """Turns a dict that is given as JSON, with true and false, into one of Python."""
    name, _, value = argument.partition('=')
    try:
        return f'{name}={json.loads(value)!r}'
    except ValueError:  # It is one of Python already, or none.
        return argument


def _apply(config: ConfigDict, overrides: list[str]) -> dict[str, Any]:
    """Changes a config as the command line says.

    Args:
      config: Is changed in place.
      overrides: Words such as `--config.train.batch_size=32`.

    Returns:
      The values of the keys that are changed, by their names with dots.

    Raises:
      ValueError: for a value of the wrong type; says what it may be.
    """
    values = flags.FlagValues()
    argv = ['', *overrides]
    try:
        config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=argv)
        values(argv)
    except (AttributeError, KeyError):
        # `_split` knows all keys, so this is an entry of a value that is a dict.
        words = [
            word
            for word in overrides
            if word.split('=')[0].removeprefix('--config.') not in SCHEMA.keys
        ]
        raise ValueError(
            f'{words[0]}: the config has no such entry; give the whole dict, as in '
            '--config.data.parameters="{\'NAME\': 1}"'
        ) from None
    except (TypeError, ValueError, flags.Error) as error:
        message = ' '.join(str(error).split())
        if match := re.match(r'flag (--config\.([^=]+)=.*?): ', message):
            message = f'{match[1]}: {SCHEMA.explain(match[2])}'
        raise ValueError(message) from None
    changed = config_flags.get_override_values(values['config'])
    for name, value in changed.items():
        if isinstance(value, tuple) and '' in value:  # `--config.evaluate.scales=` takes all away.
            changed[name] = value[len(value) - value[::-1].index('') :]
    config.update_from_flattened_dict(changed)
    return changed
