"""What pyproject.toml cannot say: conf/ lies at the top of the checkout, and inside the package of a wheel."""

from setuptools import find_packages, setup

OURS = ["ressformer", "ressformer.*", "tasks", "tasks.*", "experiments", "experiments.*"]

setup(packages=[*find_packages(include=OURS), "experiments.conf"], package_dir={"experiments.conf": "conf"})
