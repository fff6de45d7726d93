"""Packages of runtime environments: copies of users' directories and archives, by content.

A package is a folder in the cache; its URI is file://<folder>. `excludes` and the files .gitignore and
.rayignore say what of a directory is left out, as git understands them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobula import _cache, exceptions
from mobula.runtime_env.runtime_env import ARCHIVES, is_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pathspec

_PREFIX = "_mobula_pkg_"
_BYTES_MAX = 512 << 20  # $MOBULA_PACKAGE_MB_MAX says otherwise.
_IGNORE_FILES = (".gitignore", ".rayignore")
_CHUNK = 1 << 20


def working_dir(path: str | os.PathLike[str], excludes: list[str]) -> str:
    """The URI of a package with what is in a directory or an archive."""
    path = os.fspath(path)
    if is_uri(path):
        return path
    return _package(Path(path).expanduser().resolve(), excludes, under="")


def py_module(module: Any, excludes: list[str]) -> str:
    """The URI of a package that goes to sys.path: with a directory, or the modules in an archive."""
    if isinstance(module, (str, os.PathLike)):
        text = os.fspath(module)
        if is_uri(text):
            return text
        path = Path(text).expanduser().resolve()
    elif hasattr(module, "__path__"):
        path = Path(next(iter(module.__path__))).resolve()
    else:
        path = Path(module.__file__).resolve()
    return _package(path, excludes, under=path.name)


def setup_hook(hook: Callable[[], Any]) -> str:
    """The path of a file with the function."""
    from mobula import _serialization

    pickled = _serialization.pickle_plainly(hook)

    def make(folder: Path) -> None:
        (folder / "hook").write_bytes(pickled)

    digest = hashlib.sha256(pickled).hexdigest()[:32]
    return str(_cache.get_or_make("packages", "_mobula_hook_" + digest, make) / "hook")


def folder_of(uri: str) -> Path:
    """Where a package lies. RuntimeEnvSetupError: it is none, or gone."""
    folder = Path(uri.removeprefix("file://"))
    if uri.startswith("file://") and folder.is_dir():
        return folder
    if uri.startswith("file://"):
        raise exceptions.RuntimeEnvSetupError(f"{folder} is not there any more")
    raise exceptions.RuntimeEnvSetupError(
        f"{uri}: only local directories and archives can be used, not remote ones. Download it, and "
        "give its path."
    )


def _package(path: Path, excludes: list[str], under: str) -> str:
    if path.is_dir():
        files = list(_files(path, excludes))
        digest = _digest_of(path, files)
        make = _copier(path, files, under)
    elif path.name.endswith((*ARCHIVES, ".whl")):
        digest = _digest_of(path.parent, [path])
        make = _unpacker(path)
    elif path.suffix == ".py" and under:
        digest = _digest_of(path.parent, [path])
        make = _copier(path.parent, [path], "")
    else:
        raise ValueError(
            f"{path} must be an existing directory or a supported archive ({', '.join(ARCHIVES)})"
        )
    key = hashlib.sha256(f"{digest}\0{under}".encode()).hexdigest()[:32]
    return f"file://{_cache.get_or_make('packages', _PREFIX + key, make)}"


def _bytes_max() -> int:
    try:
        return int(float(os.environ["MOBULA_PACKAGE_MB_MAX"]) * (1 << 20))
    except (KeyError, ValueError):
        return _BYTES_MAX


# ---- directories


def _files(root: Path, excludes: list[str]) -> Iterator[Path]:
    """Files, links to files or directories, and empty directories, in a fixed order."""
    rules = [(root, _spec_of(excludes))] if excludes else []
    total = 0
    for where, names, files in os.walk(root):
        folder = Path(where)
        rules = [rule for rule in rules if rule[0] == root or folder.is_relative_to(rule[0])]
        rules += _ignore_rules(folder)
        names[:] = [
            name
            for name in sorted(names)
            if name not in (".git", "__pycache__") and not _is_ignored(folder / name, rules, True)
        ]
        links = [name for name in names if (folder / name).is_symlink()]
        kept = [name for name in files if not _is_ignored(folder / name, rules, False)]
        for name in sorted(links + kept):
            path = folder / name
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                continue
            total += path.lstat().st_size
            if total > _bytes_max():
                raise exceptions.RuntimeEnvSetupError(
                    f"{root} has more than {_bytes_max() >> 20} MiB, which a package of a runtime "
                    "environment may have at most. Leave out what tasks do not need, by `excludes` or "
                    ".gitignore."
                )
            yield path
        if not names and not kept and folder != root:
            yield folder


def _spec_of(lines: list[str]) -> pathspec.PathSpec[Any]:
    import pathspec

    return pathspec.PathSpec.from_lines("gitignore", lines)


def _ignore_rules(folder: Path) -> list[tuple[Path, pathspec.PathSpec[Any]]]:
    rules = []
    for name in _IGNORE_FILES:
        if name == ".gitignore" and os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1":
            continue
        path = folder / name
        if path.is_file():
            rules.append((folder, _spec_of(path.read_text(errors="replace").splitlines())))
    return rules


def _is_ignored(
    path: Path, rules: list[tuple[Path, pathspec.PathSpec[Any]]], is_directory: bool
) -> bool:
    for base, spec in rules:
        text = str(path.relative_to(base)) + ("/" if is_directory else "")
        if spec.match_file(text):
            return True
    return False


def _digest_of(root: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        mode = path.lstat().st_mode
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{mode & 0o111:o}\0".encode())
        if stat.S_ISLNK(mode):
            digest.update(os.readlink(path).encode(errors="surrogateescape"))
        elif stat.S_ISREG(mode):
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()


def _copier(root: Path, paths: list[Path], under: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        top = folder / under if under else folder
        top.mkdir(exist_ok=True)
        for path in paths:
            target = top / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                target.mkdir(exist_ok=True)
            elif path.is_file():
                shutil.copy2(path, target)  # Of a link: what it leads to.
            else:
                target.symlink_to(os.readlink(path))

    return make


# ---- archives


def _unpacker(path: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        try:
            if path.name.endswith((".zip", ".whl")):
                _unzip(path, folder)
            else:
                _untar(path, folder)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
            raise exceptions.RuntimeEnvSetupError(f"{path} cannot be unpacked: {error}") from error
        for data in folder.glob("*.data"):  # Of a wheel.
            for part in ("purelib", "platlib"):
                if (data / part).is_dir():
                    shutil.copytree(data / part, folder, dirs_exist_ok=True)

    return make


def _check_member(path: Path, name: str) -> None:
    if name.startswith("/") or ".." in Path(name).parts:
        raise exceptions.RuntimeEnvSetupError(f"{path} has a file outside of itself: {name}")


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > _bytes_max():
            raise exceptions.RuntimeEnvSetupError(
                f"{path} has more than {_bytes_max() >> 20} MiB when it is unpacked"
            )
        for info in archive.infolist():
            _check_member(path, info.filename)
            target = archive.extract(info, folder)
            mode = info.external_attr >> 16
            if mode & 0o111 and os.path.isfile(target):
                os.chmod(target, 0o755)


def _untar(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive:
        total = 0
        for member in archive:
            _check_member(path, member.name)
            if not (member.isreg() or member.isdir() or member.issym()):
                continue
            if member.issym():
                _check_member(path, os.path.normpath(Path(member.name).parent / member.linkname))
            total += member.size
            if total > _bytes_max():
                raise exceptions.RuntimeEnvSetupError(
                    f"{path} has more than {_bytes_max() >> 20} MiB when it is unpacked"
                )
            archive.extract(member, folder)
