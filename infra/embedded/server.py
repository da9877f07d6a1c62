"""The server's processes: the user that they run as, how they start, how they stop.

A server is told by its postmaster's pid file, which counts only if that process really works in
the cluster's folder. Whether anything at all of a server lives, an initdb or a backend that a
killed postmaster left included, is told by a lock that all of them inherit.
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
# Recovery from a crash replays up to max_wal_size, and a shutdown writes all of the memory out.
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
    # An erased person's bytes must not live on in a recycled segment.
    "wal_recycle": "off",
    "wal_init_zero": "off",
    "jit": "off",
    "random_page_cost": "1.1",
    # Statements, parameters and the messages of failed statements hold personal data: none of it
    # may reach the server's log. `log` is above `error`; who sent the statement hears of it.
    "log_min_messages": "log",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}

# By cluster, the postmasters that this process started, and has to reap.
_children: dict[Path, subprocess.Popen[bytes]] = {}


class EmbeddedError(Exception):
    """The embedded server could not be started, stopped or reached; says what to do."""


class GivenUp(Exception):
    """What was waited for is not wanted any more."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as; None for both: the one that runs this."""

    uid: int | None = None
    gid: int | None = None

    @property
    def owner(self) -> int:
        return os.geteuid() if self.uid is None else self.uid

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def popen(self, command: list[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
        """Starts a program that holds `lock`, with all that descend from it."""
        # The folder is the server's: it must not lead us elsewhere by a link.
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
                # Ctrl-C in the terminal is for us: we stop the server in our time.
                start_new_session=True,
            )
        finally:
            os.close(output)


def is_ready(cluster: Path, lock: int, is_given_up: Callable[[], bool] = _never) -> bool:
    """Whether a server runs, after waiting for one that starts or stops at this moment.

    If not, nothing of one is left alive, and the open file `lock` is locked for the next.

    Raises:
        GivenUp: `is_given_up` said so meanwhile.
    """
    for _ in _polls(f"something holds {cluster}, and is no server that gets ready", is_given_up):
        pid = postmaster(cluster)
        # One killed this instant still stands in /proc; it does not answer any more.
        if pid is not None and _says_ready(cluster, pid) and _answers(cluster):
            return True
        if pid is None:
            if gets(lock):
                break
            # No one waits for them: a server without its postmaster, or without who started it.
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
    """Starts a server, from nothing if need be, once `is_ready` has said that there is none.

    Args:
        socket: the folder of its socket; None: where this process would put it.

    Raises:
        EmbeddedError: it does not start; says where its log is.
        GivenUp: `is_given_up` said so meanwhile; the server goes on starting.
    """
    _clear(cluster, socket_folder(cluster))
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, account, binaries, lock)
    socket = socket or _place_of_socket(cluster)
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
    """Takes note of the end of a postmaster that this process started, and another process has
    started anew."""
    child = _children.get(cluster)
    if child is not None and child.poll() is not None:
        _children.pop(cluster, None)


def stop(cluster: Path, is_given_up: Callable[[], bool] = _never) -> None:
    """Stops the cluster's server, if there is one, and what a killed one left running.

    Raises:
        GivenUp: `is_given_up` said so before the server was gone, which goes on stopping.
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
    """Where the server's socket is: with the cluster, wherever that was moved to, or where the
    server says."""
    if (cluster / _SOCKET).exists():
        return cluster
    lines = _pid_file(cluster)
    return Path(lines[4]) if len(lines) > 4 else None


def _initialise(cluster: Path, account: Account, binaries: Path, lock: int) -> None:
    """Makes the cluster beside its place and moves it in whole: a crash leaves no half of one."""
    fresh = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    log = cluster.with_name("initdb.log")
    # Trust, as nobody gets to the socket but the server's own user and root.
    command = [str(binaries / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--locale=C", "--data-checksums"]
    if account.popen(command, log, lock).wait() != 0:
        raise EmbeddedError(f"initdb failed; {log} ends:\n{_tail(log)}")
    log.unlink()
    fresh.rename(cluster)
    # Or a power cut could undo the move, after transactions were committed in it.
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def _clear(cluster: Path, socket: Path | None) -> None:
    """Reaps a dead server and clears away its pid file and socket: the number in them may by now
    be that of another program."""
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
    """The running server's process, if it really is one of this cluster."""
    first = _pid_file(cluster)[0]
    return int(first) if first.isdecimal() and int(first) in _processes(cluster) else None


def _says_ready(cluster: Path, pid: int) -> bool:
    lines = _pid_file(cluster)
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _pid_file(cluster: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return (cluster / "postmaster.pid").read_text().split("\n")
    return [""]


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


def gets(lock: int) -> bool:
    """Whether this open file is now locked for its holder alone."""
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
    """Comes round every few milliseconds; raises the complaint when the time is up."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if is_given_up():
            raise GivenUp
        yield
        time.sleep(_POLL_SECONDS)
    raise EmbeddedError(complaint)


def _place_of_socket(cluster: Path) -> Path:
    """The cluster's folder, or a short one where no socket can have its path."""
    too_long = len(os.fsencode(cluster)) + len(f"/{_SOCKET}") > _LONGEST_SOCKET_PATH
    # Server and client take a comma for the end of one path and the start of the next.
    if too_long or "," in str(cluster):
        return Path(tempfile.gettempdir()) / _short_name(cluster)
    return cluster


def _short_name(cluster: Path) -> str:
    return f"annals-{hashlib.sha256(bytes(cluster)).hexdigest()[:16]}"


def _private_folder(path: Path, account: Account) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        account.own(path)
    found = path.lstat()
    foreign = not stat.S_ISDIR(found.st_mode) or found.st_uid != account.owner
    if foreign or found.st_mode & 0o077:
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
