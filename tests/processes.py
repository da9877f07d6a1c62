"""Processes of tests, forked from one that has imported everything: a start takes milliseconds, and
seconds for a Python of its own.

What forks is a process apart, multiprocessing's fork server: a child of it has no thread, no socket
and no lock of the tests. A child ends as soon as its function does; where the end of an interpreter
is the point, or its start, a test runs `python -m api`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import TracebackType
from typing import IO

from api.cli import main

SECONDS = 120

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


class Process:
    """A function in a process of its own, with pipes for its input and output.

    Attributes:
        stdin: what the process reads.
        stdout: what it writes.
        pid: its process id.
    """

    def __init__(
        self,
        function: Callable[..., None],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            function: found by its name, in a module that can be imported.
            environment: None: that of this process, as it is now.
        """
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        self.stdin: IO[str] = os.fdopen(stdin, "w")
        self.stdout: IO[str] = os.fdopen(stdout)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        ends = (child_stdin, child_stdout, self._stderr.fileno())
        self._process = _CONTEXT.Process(
            target=_run,
            args=(
                _Ends(ends),
                dict(os.environ if environment is None else environment),
                str(Path.cwd()),
                function,
                arguments,
            ),
            daemon=True,
        )
        self._process.start()
        os.close(child_stdin)
        os.close(child_stdout)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def errors(self) -> str:
        """What it has written to standard error so far."""
        # Not by its own offset, which is the child's too.
        file = self._stderr.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = SECONDS) -> int:
        """Waits for the end; returns the exit code. Raises: TimeoutError."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} does not end: {self.errors()}")
        return self._process.exitcode

    def tell(self, line: str) -> None:
        self.stdin.write(f"{line}\n")
        self.stdin.flush()

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kills it if it runs, and forgets what it wrote."""
        self.kill()
        for end in (self.stdin, self.stdout, self._stderr):
            end.close()


def await_fork_server() -> None:
    """Waits until it has imported everything, for a test that is busy until its processes run."""
    with Process(int):
        pass


def annals(*words: str, environment: Mapping[str, str] | None = None) -> Process:
    """A command as on the command line."""
    return Process(_annals, words, environment=environment)


def _annals(words: tuple[str, ...]) -> None:
    main(words, prog_name="annals")


class _Ends:
    """File descriptors on their way to a child."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._descriptors = descriptors

    def __reduce__(self) -> tuple[Callable[..., tuple[int, ...]], tuple[object, ...]]:
        return _received, tuple(DupFd(descriptor) for descriptor in self._descriptors)


def _received(*sent: DupFd) -> tuple[int, ...]:
    return tuple(each.detach() for each in sent)


def _run(
    ends: tuple[int, ...],
    environment: dict[str, str],
    folder: str,
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    stdin, stdout, stderr = ends
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdin = os.fdopen(stdin)
    os.close(stdout)
    os.close(stderr)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - an interpreter does so at its end
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
