"""Passes standard input on to standard error, less what a lost process makes JAX say.

A script of its own, started by `processes.start_processes`; it imports nothing but
the standard library and ends when nobody writes any more.
"""

import re
import sys

# Connections made and lost by gloo, and glog's head of a line from the parts of the
# runtime that watch other processes.
_RUNTIME = re.compile(
    r"[WEF]\d{4} [\d:.]+ +\d+ "
    r"(coordination_service\w*\.cc|preemption_sync_manager\.cc|client\.h):"
)
_COLLECTIVES = re.compile(r"\[(Gloo\]|\S*gloo/\S+\]) ")
_OURS = ("error: ", "Traceback ")
_LOST = "error: another process was lost; the same command resumes\n"


def relay() -> None:
    """Until the end of standard input."""
    dropping, said, lost = False, False, False
    for raw in sys.stdin.buffer:
        line = raw.decode(errors="replace")
        if lost:
            continue  # What follows from the loss is told by its line.
        if head := _RUNTIME.match(line):
            dropping = True
            if line.startswith("F") and head[1] == "client.h" and not said:
                said = lost = True
                sys.stderr.write(_LOST)
        elif _COLLECTIVES.match(line):
            pass
        elif not dropping or line.startswith(_OURS):
            dropping = False
            said = said or line.startswith("error: ")
            sys.stderr.write(line)
        sys.stderr.flush()


if __name__ == "__main__":
    relay()
