"""Turns a module that is not installed into the command that installs it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

# Libraries whose package has another name than their module.
PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "open_clip": "open_clip_torch",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


def install_line(module: str, distribution: str) -> str:
    """The exact `pip install` command for a missing module, where the plugin's distribution declares it; else empty.

    Args:
        module: The module that was not found, possibly dotted.
        distribution: The distribution whose code imports it.
    """
    package = module.partition(".")[0]
    wanted = normal(PACKAGES.get(package, package))
    for requirement in declared(distribution):
        if normal(requirement.name) == wanted:
            extra = re.search(r"extra\s*==\s*[\"']([^\"']+)[\"']", str(requirement.marker or ""))
            return (
                f'pip install "{distribution}[{extra[1]}]"' if extra else f'pip install "{requirement.name}{requirement.specifier}"'
            )
    return ""


def declared(distribution: str) -> list[Requirement]:
    """What an installed distribution declares to need, extras included; nothing where that cannot be read."""
    try:
        return [Requirement(line) for line in requires(distribution) or ()] if distribution else []
    except (PackageNotFoundError, ValueError):
        return []


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
