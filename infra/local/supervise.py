"""Runs one server and stops it when whoever started it goes away, however abruptly.

    python -I -S supervise.py STOP_SIGNAL GRACE_S LAST_SIGNAL [--uid U --gid G] [--pass-fd N] -- COMMAND...

Standard input is a pipe that nobody writes to. It ends when its holder closes it or dies (also by SIGKILL); then the
server gets STOP_SIGNAL, and LAST_SIGNAL after GRACE_S seconds. PR_SET_PDEATHSIG would need code between fork and exec in
a process full of threads, follows the thread rather than the process that forked, and cannot escalate.

Only the standard library, and not even `site`: this process lives as long as the server and should weigh little.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading


def _wait_for_end_of_input() -> None:
    while os.read(0, 1024):
        pass


def main(arguments: list[str]) -> int:
    """The exit code of the server (128 + n when signal n ended it)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stop_signal", type=int)
    parser.add_argument("grace_s", type=float)
    parser.add_argument("last_signal", type=int)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--pass-fd", type=int, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    # Ctrl-C in a terminal reaches everything in it; the server is stopped in order, by the one who started it.
    # (A handler rather than SIG_IGN, which the server would inherit.)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, lambda *_: None)
    identity: dict[str, object] = {}
    if options.uid is not None:
        identity = {"user": options.uid, "group": options.gid, "extra_groups": []}
    server = subprocess.Popen(  # noqa: S603 - the command is the caller's own
        options.command,
        stdin=subprocess.DEVNULL,
        restore_signals=True,
        start_new_session=True,
        pass_fds=options.pass_fd,
        **identity,  # type: ignore[call-overload]  # three keyword arguments that are either all there or not at all
    )

    def stop_with_parent() -> None:
        _wait_for_end_of_input()
        os.close(0)  # so that nobody who looks for a reader of a named lifeline finds a server that is on its way out
        server.send_signal(options.stop_signal)
        try:
            server.wait(options.grace_s)
        except subprocess.TimeoutExpired:
            server.send_signal(options.last_signal)

    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(options.stop_signal))
    threading.Thread(target=stop_with_parent, daemon=True).start()
    code: int = server.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
