# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of things that take minutes to make, outside every build tree.

$PENSTOCK_CACHE_DIR, else $XDG_CACHE_HOME/penstock, else ~/.cache/penstock. One entry is a folder
softroce-<hash of the recipe>; it holds the file and nothing else once the file is made.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile


class Unavailable(Exception):
    """No guest can be had here; the text is the one line that says why."""


def root():
    own = os.environ.get("PENSTOCK_CACHE_DIR")
    if own:
        return pathlib.Path(own)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache",
                        "penstock")


def entry(recipe, name):
    """Where the file `name` made by the files of `recipe` is, or will be."""
    digest = hashlib.sha256()
    for path in recipe:
        digest.update(path.read_bytes())
    return root() / f"softroce-{digest.hexdigest()[:12]}" / name


def make(path, gigabytes, build):
    """Calls build(folder), which leaves the file in a fresh folder, and moves it to `path`.

    Of several callers one builds and the others wait for it; what a killed one left is removed. The
    file appears whole or not at all. Needs `gigabytes` free while it builds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make {path.parent}: {error.strerror}; "
                          "set PENSTOCK_CACHE_DIR") from error
    with _locked(path.parent / "lock"):
        if path.exists():
            return
        for left in path.parent.glob("building-*"):
            shutil.rmtree(left)
        free = shutil.disk_usage(path.parent).free / 1e9
        if free < gigabytes:
            raise Unavailable(f"{path.parent} has {free:.1f} GB free, building takes {gigabytes}; "
                              "set PENSTOCK_CACHE_DIR")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="building-", dir=path.parent))
        try:
            build(folder)
            os.replace(folder / path.name, path)
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(path):
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
