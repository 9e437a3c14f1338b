"""What pyproject.toml cannot say: the recipes of configs/ are installed inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=['hybrid', 'hybrid.*']), 'hybrid.configs'],
    package_dir={'hybrid.configs': 'configs'},
)
