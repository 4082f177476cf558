"""Cryptography that the kernel does for processes: random numbers, and AF_ALG sockets from bind to the result."""

from __future__ import annotations

from tests.guests.checks import check, equal, skip
from tests.guests.eventkit import arguments, deeds

SCRIPT = """
import socket
for name, count in (("/dev/urandom", 17), ("/dev/random", 3)):
    file = os.open(name, os.O_RDONLY)
    told(**{name: len(os.read(file, count))})
    os.close(file)
try:
    hasher = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    hasher.bind(("hash", "sha256"))
    running, _ = hasher.accept()
    running.sendall(b"abc")
    told(digest=running.recv(64).hex())
except (OSError, AttributeError) as error:  # the kernel has none, or this Python
    told(error=str(error))
"""


@check(timeout=60.0)
def check_random_numbers_that_are_read():
    """From which device, how many bytes were wanted, and how many came."""
    with deeds(["random_read"], SCRIPT) as (found, _, facts):
        seen = [(*arguments(event).values(), event["returnValue"]) for event in found["random_read"]]
        equal(seen, [("/dev/urandom", 17, facts["/dev/urandom"]), ("/dev/random", 3, facts["/dev/random"])])


@check(timeout=60.0)
def check_algorithms_of_sockets():
    """Each step of a hash, with the algorithm's name also where only the accepted socket is used."""
    with deeds(["alg_socket"], SCRIPT) as (found, _, facts):
        if "error" in facts:
            skip(f"no AF_ALG sockets: {facts['error']}")
        equal(facts["digest"][:16], "ba7816bf8f01cfea")
        steps = [[*arguments(event).values()] for event in found["alg_socket"]]
        names = ["hash", "sha256"]
        equal(
            steps,
            [["bind", *names, 0], ["accept", *names, 0], ["sendmsg", *names, 3], ["recvmsg", *names, 64]],
        )
