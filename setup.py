"""What setup.cfg cannot say: `configs/` is a part of the installed package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ssah_jax*"]), "ssah_jax.configs"],
    package_dir={"ssah_jax.configs": "configs"},
)
