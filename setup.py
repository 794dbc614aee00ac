"Everything the package says of itself stands in settings.ini; this file only reads it."

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser()
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

extras = {
    name: settings[f"{name}_requirements"].split()
    for name in ("classical", "run", "cluster", "docs", "dev")
}
extras["all"] = sorted({requirement for group in extras.values() for requirement in group})


def away_from_home(link):
    "Make a link of the README that leads to a file of the repository work on another site."
    kind = "raw" if link[0].startswith("!") else "blob"
    return f"{link[0]}{settings['git_url']}/{kind}/{settings['branch']}/"


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=re.sub(
        r"!?\[[^]]*\]\((?!https?:|#)",
        away_from_home,
        (here / "README.md").read_text(encoding="utf-8"),
    ),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"].split(),
    author=settings["author"],
    author_email=settings["author_email"],
    license="Apache-2.0",
    url=settings["git_url"],
    packages=find_packages(include=["fmnist_cluster*"]),
    options={"egg_info": {"egg_base": "."}},
    package_data={"fmnist_cluster": ["py.typed", "reference_model/*"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)),
    ],
)
