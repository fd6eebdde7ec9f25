"""The files that start the engine with the interpreter, and where they lie.

Three ways: ``mx_autopatch.pth`` in site-packages, ``mx_autopatch.start`` beside it
(PEP 829, Python 3.15 and later, where a .pth file runs no code in the end), and a
``sitecustomize.py`` on PYTHONPATH for people who cannot install.
"""

from __future__ import annotations

import os

import mx_autopatch

__all__ = [
    "FILES",
    "installed",
    "is_ours",
    "package_home",
    "site_folders",
    "sitecustomize_folder",
]

#: Name -> content. The same as in sitecustomize_template/, which is not in the package.
FILES = {
    "mx_autopatch.pth": 'import os; os.environ.get("MX_AUTOPATCH", "0") not in ("", "0")'
    ' and __import__("mx_autopatch.bootstrap").bootstrap.start()\n',
    "mx_autopatch.start": "mx_autopatch.bootstrap:start\n",
}

#: How our sitecustomize.py begins.
_SITECUSTOMIZE = b'"""Starts mx_autopatch where it cannot be installed'


def site_folders() -> list[str]:
    """The folders whose .pth files this interpreter reads when it starts."""
    import site

    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return folders


def installed(name: str = "mx_autopatch.pth") -> list[str]:
    """Where the file of that name lies in the folders of this interpreter."""
    paths = [os.path.join(folder, name) for folder in site_folders()]
    return [path for path in paths if os.path.isfile(path)]


def package_home() -> str:
    """The folder that holds the package: site-packages, or that of a source tree."""
    return os.path.dirname(os.path.dirname(os.path.abspath(mx_autopatch.__file__)))


def sitecustomize_folder() -> str:
    """The folder with our sitecustomize.py: in the package, or in a source tree beside it."""
    packaged = os.path.join(package_home(), "mx_autopatch", "_sitecustomize")
    if os.path.isdir(packaged):
        return packaged
    return os.path.join(package_home(), "sitecustomize_template")


def is_ours(path: str) -> bool:
    """Whether one of these files was written by us, of this or another version."""
    mark = _SITECUSTOMIZE if path.endswith(".py") else b"mx_autopatch.bootstrap"
    try:
        with open(path, "rb") as file:
            return mark in file.read(4096)
    except OSError:
        return False
