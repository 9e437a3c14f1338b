"""`python -m hybrid` is the command line."""

from hybrid import cli

if __name__ == '__main__':
    cli.main()
