"""Passes standard input on to standard error, less what a lost process makes JAX say.

A script of its own, started by `joining.start_processes`; it imports nothing but
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
_JOINING = "RPC: /xla.coordination.CoordinationService/RegisterTask"
_LOST = "another process was lost; the same command resumes"


def relay(missing: str, twice: str) -> None:
    """Until the end of standard input.

    Args:
        missing: what to say where not all processes came.
        twice: where another one has this one's number.
    """
    dropping, said, fatal, reason = False, False, "", _LOST
    for raw in sys.stdin.buffer:
        line = raw.decode(errors="replace")
        if fatal:
            # The runtime ends the process, and why stands in these lines.
            if line.startswith(_JOINING):
                reason = twice if "ALREADY_EXISTS" in fatal else missing
        elif head := _RUNTIME.match(line):
            dropping = True
            if line.startswith("F") and head[1] == "client.h":
                fatal = line
        elif _COLLECTIVES.match(line):
            pass
        elif not dropping or line.startswith(_OURS):
            dropping = False
            said = said or line.startswith("error: ")
            sys.stderr.write(line)
        sys.stderr.flush()
    if fatal and not said:
        sys.stderr.write(f"error: {reason}\n")


if __name__ == "__main__":
    relay(*sys.argv[1:])
