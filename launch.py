"""The command line from a checkout: `python launch.py --help` lists the flags and modes.

`python -m hybrid` does the same wherever the package is installed.
"""

from hybrid import cli

if __name__ == '__main__':
    cli.main()
