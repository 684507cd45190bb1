"""Runs a command under what matters here of the seccomp profile RuntimeDefault: without bpf().

containerd and Docker let a container with CAP_BPF call it, CRI-O one with CAP_SYS_ADMIN; the stricter counts.
"""

import ctypes
import errno
import os
import struct
import sys

BPF_CALL = {"x86_64": 321, "aarch64": 280}
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*


def refuse_bpf() -> None:
    """For this process and all it becomes.  Raises OSError."""
    steps = (
        (_LOAD_NUMBER, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, BPF_CALL[os.uname().machine]),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse_bpf()
    os.execvp(sys.argv[1], sys.argv[1:])
