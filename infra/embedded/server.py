"""The server's processes: the user that they run as, how they start, how they stop.

The postmaster's pid file names a running server; it counts only if that process works in the
cluster's folder. All processes of a server inherit a lock, an initdb and the backends of a killed
postmaster too: while it is held, one of them lives.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

PORT = 5432
# A recovery replays up to max_wal_size, and a shutdown writes all shared memory out.
WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.01
_SOCKET = f".s.PGSQL.{PORT}"
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
    # A recycled segment would keep the bytes of an erased subject.
    "wal_recycle": "off",
    "wal_init_zero": "off",
    "jit": "off",
    "random_page_cost": "1.1",
    # Statements, parameters and messages of failed statements hold personal data: none of them may
    # reach the server's log. `log` is above `error`; the client still gets the error.
    "log_min_messages": "log",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}

# The postmasters that this process started and has to reap, by cluster.
_children: dict[Path, subprocess.Popen[bytes]] = {}


class EmbeddedError(Exception):
    """The embedded server could not be started, stopped or reached; says what to do."""


class GivenUp(Exception):
    """The caller does not want to wait any more."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as; None for both: this process's own."""

    uid: int | None = None
    gid: int | None = None

    @property
    def owner(self) -> int:
        return os.geteuid() if self.uid is None else self.uid

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def popen(self, command: list[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
        """Starts a program that holds `lock`, as do all its descendants."""
        # The folder is the server's: no link in it may lead Annals elsewhere.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        output = os.open(log, flags, 0o600)
        try:
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
                pass_fds=(lock,),
                # Ctrl-C in the terminal is for Annals, which stops the server in its own time.
                start_new_session=True,
            )
        finally:
            os.close(output)


def is_ready(cluster: Path, lock: int, is_given_up: Callable[[], bool] = _never) -> bool:
    """Whether a server runs, after waiting for one that starts or stops at this moment.

    If not, no process of a server lives, and the open file `lock` is locked for the next server.

    Raises:
        GivenUp: `is_given_up` returned True meanwhile.
    """
    for _ in _polls(f"something holds {cluster}, and is no server that gets ready", is_given_up):
        pid = postmaster(cluster)
        # A process that was just killed is still in /proc; it does not answer any more.
        if pid is not None and _says_ready(cluster, pid) and _answers(cluster):
            return True
        if pid is None:
            if try_lock(lock):
                break
            # Nothing waits for them: the postmaster, or the process that started it, is dead.
            _kill(_processes(cluster))
    return False


def start(
    cluster: Path,
    account: Account,
    binaries: Path,
    lock: int,
    *,
    socket: Path | None = None,
    is_given_up: Callable[[], bool] = _never,
) -> None:
    """Starts a server, once `is_ready` has returned False; makes the cluster if need be.

    Args:
        socket: the folder of its socket; None: the one that this process would choose.

    Raises:
        EmbeddedError: it does not start; names its log.
        GivenUp: `is_given_up` returned True meanwhile; the server goes on starting.
    """
    _clear(cluster, socket_folder(cluster))
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, account, binaries, lock)
    socket = socket or _choose_socket_folder(cluster)
    if socket != cluster:
        _private_folder(socket, account)
    _clear_socket(socket)
    options = {**SETTINGS, **_sizes(_memory()), "unix_socket_directories": str(socket)}
    command = [str(binaries / "postgres"), "-D", str(cluster)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    log = cluster / "server.log"
    process = account.popen(command, log, lock)
    _children[cluster] = process
    try:
        for _ in _polls(f"PostgreSQL does not get ready; see {log}", is_given_up):
            if _says_ready(cluster, process.pid):
                return
            if process.poll() is not None:
                raise EmbeddedError(f"PostgreSQL stopped while starting; {log} ends:\n{_tail(log)}")
    except GivenUp:
        raise
    except BaseException:
        stop(cluster)
        raise


def reap(cluster: Path) -> None:
    """Reaps a postmaster that this process started and another process restarted."""
    child = _children.get(cluster)
    if child is not None and child.poll() is not None:
        _children.pop(cluster, None)


def stop(cluster: Path, is_given_up: Callable[[], bool] = _never) -> None:
    """Stops the cluster's server, if there is one, and the processes that a killed one left.

    Raises:
        GivenUp: `is_given_up` returned True before the server had stopped; it goes on stopping.
    """
    socket = socket_folder(cluster)
    pid = postmaster(cluster)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        complaint = f"PostgreSQL (process {pid}) does not stop; see {cluster / 'server.log'}"
        for _ in _polls(complaint, is_given_up):
            if postmaster(cluster) is None:
                break
    for _ in _polls(f"processes of a killed server do not end in {cluster}", is_given_up):
        left = _processes(cluster)
        if not left:
            break
        _kill(left)
    _clear(cluster, socket)


def conninfo(socket: Path) -> str:
    """Connection string of the superuser of the server with this socket, database `postgres`."""
    return make_conninfo(host=str(socket), port=PORT, user="postgres", dbname="postgres")


def _answers(cluster: Path) -> bool:
    socket = socket_folder(cluster)
    if socket is None:
        return False
    ping = PGconn.ping(f"{conninfo(socket)} connect_timeout=5".encode())
    return ping == Ping.OK


def socket_folder(cluster: Path) -> Path | None:
    """The folder of the server's socket: the cluster's, also after a move, or the one that the
    server's pid file names."""
    if (cluster / _SOCKET).exists():
        return cluster
    lines = _pid_file(cluster)
    return Path(lines[4]) if len(lines) > 4 else None


def _initialise(cluster: Path, account: Account, binaries: Path, lock: int) -> None:
    """Makes the cluster in another folder and renames that: a crash leaves no half of a cluster."""
    fresh = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    log = cluster.with_name("initdb.log")
    # Trust: only the server's own user and root reach the socket.
    command = [str(binaries / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--locale=C", "--data-checksums"]
    if account.popen(command, log, lock).wait() != 0:
        raise EmbeddedError(f"initdb failed; {log} ends:\n{_tail(log)}")
    log.unlink()
    fresh.rename(cluster)
    # Else a power cut could undo the renaming, after transactions were committed.
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def _clear(cluster: Path, socket: Path | None) -> None:
    """Reaps a dead server and deletes its pid file and socket: the process id in them may by now be
    another program's."""
    child = _children.pop(cluster, None)
    if child is not None:
        child.wait()
    if socket is not None and (socket == cluster or socket.name == _short_name(cluster)):
        _clear_socket(socket)
        if socket != cluster:
            with suppress(OSError):
                socket.rmdir()
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _clear_socket(folder: Path) -> None:
    for name in (_SOCKET, f"{_SOCKET}.lock"):
        (folder / name).unlink(missing_ok=True)


def postmaster(cluster: Path) -> int | None:
    """The process id of the running postmaster, if it works in this cluster."""
    first = _pid_file(cluster)[0]
    return int(first) if first.isdecimal() and _works_in(cluster, first) else None


def _says_ready(cluster: Path, pid: int) -> bool:
    lines = _pid_file(cluster)
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _pid_file(cluster: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return (cluster / "postmaster.pid").read_text().split("\n")
    return [""]


def _processes(cluster: Path) -> set[int]:
    """The process ids of all that work in the cluster's folder, as every server process does."""
    pids = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return {int(pid) for pid in pids if _works_in(cluster, pid)}


def _works_in(cluster: Path, pid: str) -> bool:
    """Whether this process lives, and is one of a server of the cluster."""
    with suppress(OSError):
        if Path(f"/proc/{pid}/cwd").readlink() == cluster:
            return Path(f"/proc/{pid}/exe").readlink().name.startswith("postgres")
    return False


def try_lock(lock: int) -> bool:
    """Locks an open file, if no other process holds it; says whether it did."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _polls(complaint: str, is_given_up: Callable[[], bool] = _never) -> Iterator[None]:
    """Yields every few milliseconds; raises the complaint after `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if is_given_up():
            raise GivenUp
        yield
        time.sleep(_POLL_SECONDS)
    raise EmbeddedError(complaint)


def _choose_socket_folder(cluster: Path) -> Path:
    """The cluster's folder, or a short one where its path is too long for a socket."""
    too_long = len(os.fsencode(cluster)) + len(f"/{_SOCKET}") > _LONGEST_SOCKET_PATH
    # Server and client read a comma as the end of a path.
    if too_long or "," in str(cluster):
        return Path(tempfile.gettempdir()) / _short_name(cluster)
    return cluster


def _short_name(cluster: Path) -> str:
    return f"annals-{hashlib.sha256(bytes(cluster)).hexdigest()[:16]}"


def _private_folder(path: Path, account: Account) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        account.own(path)
    status = path.lstat()
    is_foreign = not stat.S_ISDIR(status.st_mode) or status.st_uid != account.owner
    if is_foreign or status.st_mode & 0o077:
        raise EmbeddedError(f"{path} is not a folder of ours alone; remove it and start again")


def _memory() -> int:
    """The bytes of memory that this machine, or its container, may use."""
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
