"""`python -m config.embedded --state DIR`: both servers in the foreground, for work on the code.

Prints the variables that point to them, one `NAME=value` a line, and ends with SIGTERM or Ctrl-C.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from config.embedded.errors import EmbeddedError
from config.embedded.lock import lock_state
from config.embedded.servers import run_servers
from config.env import ensure_secret_key, read_state_folder


def main() -> int:
    """Run until a signal, until the process of --until-exit is gone, or until a server dies."""
    parser = argparse.ArgumentParser(prog="python -m config.embedded", description=__doc__)
    parser.add_argument("--state", type=Path, help="the state folder (default: MAILHOST_STATE)")
    parser.add_argument("--until-exit", type=int, metavar="PID", help="also end when this process is gone")
    options = parser.parse_args()
    state = options.state.resolve() if options.state else read_state_folder()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with lock_state(state), run_servers(state) as servers:
            ensure_secret_key(state)
            for name, value in {**servers.variables, "MAILHOST_STATE": str(state)}.items():
                sys.stdout.write(f"{name}={value}\n")
            sys.stdout.flush()
            while not stop.wait(0.5):
                if options.until_exit and not is_there(options.until_exit):
                    break
                servers.check()
    except (EmbeddedError, OSError) as error:
        sys.stderr.write(f"mailhost: {error}\n")
        return 1
    return 0


def is_there(pid: int) -> bool:
    """True while the process exists, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
