"""Prints constraints.txt: what pip resolves for the project, extras included, on two Pythons.

    python .ci/constraints.py python3.11 python3.13 > constraints.txt

The first interpreter gives the versions for Pythons older than 3.12, the second for all others.
JAX dropped Python 3.11 after 0.10, so the two differ.
"""

import json
import re
import subprocess
import sys

HEADER = """\
# The versions this project is tested with. Made by, and to renew run:
#   python .ci/constraints.py python3.11 python3.13 > constraints.txt
"""


def resolve(interpreter: str) -> dict[str, str]:
    """Returns {normalised name: version} of all that installing the project would bring in."""
    command = [interpreter, '-m', 'pip', 'install', '--quiet', '--dry-run', '--ignore-installed']
    command += ['--report', '-', '--editable', '.[cuda,tpu,test]']
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = (item['metadata'] for item in report['install'])
    versions = {re.sub(r'[-_.]+', '-', p['name']).lower(): p['version'] for p in packages}
    del versions['hybrid']
    return versions


def main(older: str, newer: str) -> None:
    """Prints one pin for each package, or one for each Python where they differ."""
    before, after = resolve(older), resolve(newer)
    print(HEADER, end='')
    for name in sorted(before | after):
        if before.get(name) == after.get(name):
            print(f'{name}=={before[name]}')
            continue
        for versions, marker in ((before, '<'), (after, '>=')):
            if name in versions:
                print(f"{name}=={versions[name]}; python_version {marker} '3.12'")


if __name__ == '__main__':
    main(*sys.argv[1:])
