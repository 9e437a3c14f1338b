"""What records, compares and tabulates the results in results/: `python -m tools.NAME --help`.

All of it runs from the project's root, with the Python of its environment. A tool imports `hybrid`,
and never `tests` or `benchmarks`.
"""
