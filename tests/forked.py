"""Processes of Python that begin where others are after their imports: a server imports camjax once, and forks.

Most of the time of a short command goes into its imports. They share what a process has from its start: the seed of
hashes, limits, and what the imports read of the environment, for which there is a server for every set of JAX's
variables. A test of a process's first moments, or of any of these, starts one of its own.
"""

import atexit
import contextlib
import functools
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading

from stack_room import roomy

IMPORTED = ("camjax.cli.app", "camjax.cli.batch", "camjax.cli.evaluate", "camjax.batch.run", "camjax.models")
"""What takes long. None of it starts a thread, which would be missing after a fork, and none has anything to say."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LONGEST = 2**17
"""Bytes of a command with its environment."""


def start(command, *, cwd=None, env=None, own=False):
    """A script as the leader of a session: a `Forked`, or a `subprocess.Popen`, which is used in the same way.

    Args:
        command: the script and its arguments.
        cwd: its folder.
        env: its environment.
        own: start Python for it, as everywhere but on Linux.
    """
    if sys.platform == "linux" and not own:
        return Forked(command, cwd=cwd, env=env)
    command, pipe = [sys.executable, *map(str, command)], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=env, start_new_session=True)


def run(command, **options):
    """Waits for a script's end."""
    process = start(command, **options)
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Forked:
    """As much of `subprocess.Popen` as tests need; see `start`."""

    def __init__(self, command, *, cwd=None, env=None):
        self.args = [*map(str, command)]
        env = dict(os.environ if env is None else env)
        asked = json.dumps({"command": self.args, "cwd": str(cwd or os.getcwd()), "env": env}).encode()
        assert len(asked) <= LONGEST
        status, out, err = pipes = [os.pipe() for _ in range(3)]
        server = _server(frozenset((name, value) for name, value in env.items() if name.startswith("JAX_")))
        socket.send_fds(server, [asked], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        self._status = os.fdopen(status[0], "rb", buffering=0)
        self.stdout, self.stderr = (os.fdopen(pipe[0], errors="backslashreplace") for pipe in (out, err))
        self.pid = self._told()
        self.returncode = None

    def poll(self):
        """The return code, or None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout=None):
        """The return code; that of a signal is negative."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._told()
            self._status.close()
        return self.returncode

    def _told(self):
        line = self._status.readline()
        if not line:
            raise ChildProcessError("the server of forks has died; its standard error says of what")
        return int(line)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=None):
        """What it wrote, after its end."""
        found = {}
        readers = [
            threading.Thread(target=lambda name=name: found.update({name: getattr(self, name).read()}), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        with self:
            return found["stdout"], found["stderr"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stdout.close()
        self.stderr.close()
        self.wait()


@functools.cache
def _server(variables):
    others = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    asked, server = begin(IMPORTED, {**others, **dict(variables), **ONE_THREAD})
    atexit.register(lambda: (asked.close(), server.wait()))
    return asked


def begin(imported, env=None):
    """Where to ask a server that has imported this, and its process, which ends when nobody can ask it any more."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command, handle = [sys.executable, __file__, str(its.fileno()), *imported], [its.fileno()]
    with its:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=handle, start_new_session=True, env=env)
    return ours, server


def serve(asked):
    """Forks for every command that comes, and tells what became of it; returns a command in the process for it."""
    assert len(os.listdir("/proc/self/task")) == 1
    running = {}
    while True:
        for ready in select.select([asked, *running], [], [])[0]:
            if ready is asked:
                message, pipes, _, _ = socket.recv_fds(asked, LONGEST, 3)
                if not message:
                    sys.exit()
                process = os.fork()
                if process == 0:
                    return json.loads(message), pipes
                os.write(pipes[0], b"%d\n" % process)
                running[os.pidfd_open(process)] = process, pipes[0]
                os.close(pipes[1])
                os.close(pipes[2])
            else:
                process, pipe = running.pop(ready)
                os.close(ready)
                with contextlib.suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as status:
                    status.write(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def become(command, pipes, *, cwd, env):
    """Gives this process what one has that was started with the command."""
    os.setsid()
    for pipe, number in zip(pipes[1:], (1, 2), strict=True):
        os.dup2(pipe, number)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)  # the server's, which no other process has
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    sys.path[0] = os.path.dirname(os.path.abspath(command[0]))


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()) as said:
        for module in sys.argv[2:]:
            importlib.import_module(module)
    assert not said.getvalue(), said.getvalue()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        given, fds = serve(requests)
    become(given.pop("command"), fds, **given)
    roomy(runpy.run_path)(sys.argv[0], run_name="__main__")
