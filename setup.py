"""What pyproject.toml cannot say: that conf/ is data of the package, though it stands beside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["unlearn_runner*"]), "unlearn_runner.conf"],
    package_dir={"unlearn_runner.conf": "conf"},
)
