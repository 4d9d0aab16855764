"""What of the steering is loaded in the kernel: programs and maps that use one policy map (bpf(2), as root)."""

import ctypes
import os
import struct

SYS_BPF = 321 if os.uname().machine == "x86_64" else 280  # asm/unistd.h
PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 11, 13, 14, 15
MAX_MAPS = 64  # of one program; ours have three

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    answer = _libc.syscall(SYS_BPF, command, buffer, 128)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer, buffer.raw


def map_fd(number):
    return _bpf(MAP_GET_FD_BY_ID, struct.pack("I", number))[0]


def _maps_of_program(number):
    fd, _ = _bpf(PROG_GET_FD_BY_ID, struct.pack("I", number))
    try:
        ids = (ctypes.c_uint32 * MAX_MAPS)()
        # struct bpf_prog_info: nr_map_ids is at 52, the pointer map_ids at 56
        info = ctypes.create_string_buffer(64)
        struct.pack_into("I", info, 52, MAX_MAPS)
        struct.pack_into("Q", info, 56, ctypes.addressof(ids))
        _bpf(OBJ_GET_INFO_BY_FD, struct.pack("IIQ", fd, 64, ctypes.addressof(info)))
        count, = struct.unpack_from("I", info, 52)
        return set(ids[:count])
    finally:
        os.close(fd)


def steering(policy_map):
    """{program id: its map ids} of the programs that read this policy."""
    found, number = {}, 0
    while True:
        try:
            _, answer = _bpf(PROG_GET_NEXT_ID, struct.pack("II", number, 0))
        except FileNotFoundError:
            return found
        number, = struct.unpack_from("I", answer, 4)
        try:
            maps = _maps_of_program(number)
        except FileNotFoundError:
            continue  # unloaded since
        if policy_map in maps:
            found[number] = maps
