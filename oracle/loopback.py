"""Runs a command where the loopback interface is the only one there is.

    python oracle/loopback.py COMMAND [ARGUMENT...]

Ray listens on every address of the machine; in a network namespace of its own nobody reaches it, and
it reaches nobody. A normal user gets a user namespace as well. Exit status 125 if the kernel
allows neither.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP_AND_RUNNING = 0x1 | 0x40
REFUSED = 125


def enter_empty_network() -> None:
    """Moves this process into a new network namespace and switches its loopback on. OSError if that is
    not allowed."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET | (CLONE_NEWUSER if user != 0 else 0)
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        fcntl.ioctl(anything, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_AND_RUNNING))


if __name__ == "__main__":
    try:
        enter_empty_network()
    except OSError as error:
        print(f"cannot make a network namespace: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    os.execv(sys.argv[1], sys.argv[1:])
