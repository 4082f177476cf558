"""Events of sockets beyond the security hooks: who is at the other end, of what is accepted, duplicated, connected."""

from __future__ import annotations

import os

from tests.guests.checks import check, equal
from tests.guests.eventkit import argument, arguments, deeds, one

SCRIPT = """
import fcntl, socket
def address(end):
    host, port = end[:2]
    return [host, str(port)]
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        server = socket.socket(family)
        server.bind((host, 0))
    except OSError:
        continue
    server.listen(1)
    client = socket.socket(family)
    client.connect(server.getsockname()[:2])
    taken, _ = server.accept()
    told(**{f"server{int(family)}": [server.fileno(), *address(server.getsockname())],
            f"client{int(family)}": [client.fileno(), *address(client.getsockname())],
            f"taken{int(family)}": taken.fileno()})
    copy = fcntl.fcntl(taken.fileno(), fcntl.F_DUPFD_CLOEXEC, 40 + int(family))
    told(**{f"copy{int(family)}": copy})
    os.dup(0)
server = socket.socket(socket.AF_UNIX)
server.bind(folder + "/socket")
server.listen(1)
client = socket.socket(socket.AF_UNIX)
client.connect(folder + "/socket")
taken, _ = server.accept()
os.dup2(client.fileno(), 60)
told(unix_server=server.fileno(), unix_client=client.fileno(), unix_taken=taken.fileno())
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 17)
sender.connect(("127.0.0.1", 9))
"""


def end(fact):
    """The members of an address as bfer shows it."""
    host, port = fact[-2:]
    if ":" in host:
        return {
            "sa_family": "AF_INET6",
            "sin6_addr": host,
            "sin6_port": port,
            "sin6_flowinfo": "0",
            "sin6_scopeid": "0",
        }
    return {"sa_family": "AF_INET", "sin_addr": host, "sin_port": port}


def families(facts):
    return [number for number in (2, 10) if f"server{number}" in facts]


@check(timeout=60.0)
def check_accepted_sockets():
    """Both ends of each, and its descriptor as the result."""
    with deeds(["socket_accept"], SCRIPT) as (found, folder, facts):
        for family in families(facts):
            server, client = facts[f"server{family}"], facts[f"client{family}"]
            event = one(found, "socket_accept", sockfd=server[0], remote_addr=end(client))
            equal(event["local_addr"], end(server))
        event = one(found, "socket_accept", local_addr={"sa_family": "AF_UNIX", "sun_path": f"{folder}/socket"})
        equal((event["sockfd"], event["remote_addr"]), (facts["unix_server"], {"sa_family": "AF_UNIX", "sun_path": ""}))
        results = [event["returnValue"] for event in found["socket_accept"]]
        equal(results, [*[facts[f"taken{family}"] for family in families(facts)], facts["unix_taken"]])


@check(timeout=60.0)
def check_security_hooks_of_sockets():
    """What is made, and whose queue is taken from."""
    with deeds(["security_socket_create", "security_socket_accept"], SCRIPT) as (found, _, facts):
        made = [arguments(event) for event in found["security_socket_create"]]
        wanted = [{"family": family, "type": 1, "protocol": 0, "kern": 0} for family in families(facts) for _ in "12"]
        wanted += [{"family": 1, "type": 1, "protocol": 0, "kern": 0}] * 2
        wanted += [{"family": 2, "type": 2, "protocol": 17, "kern": 0}]
        assert [event for event in made if event in wanted] == wanted, made
        for family in families(facts):
            server = facts[f"server{family}"]
            local = end(server)
            equal(one(found, "security_socket_accept", sockfd=server[0], local_addr=local)["local_addr"], local)
        last = found["security_socket_accept"][-1]
        equal(argument(last, "sockfd"), facts["unix_server"])
        equal(argument(last, "local_addr")["sa_family"], "AF_UNIX")


@check(timeout=60.0)
def check_duplicated_sockets():
    """By dup2() and fcntl(); other descriptors are none."""
    with deeds(["socket_dup"], SCRIPT) as (found, folder, facts):
        for family in families(facts):
            old, new = facts[f"taken{family}"], facts[f"copy{family}"]
            equal(one(found, "socket_dup", oldfd=old, newfd=new)["remote_addr"], end(facts[f"client{family}"]))
        event = one(found, "socket_dup", newfd=60)
        equal(
            (event["oldfd"], event["remote_addr"]),
            (facts["unix_client"], {"sa_family": "AF_UNIX", "sun_path": f"{folder}/socket"}),
        )
        equal(len(found["socket_dup"]), len(families(facts)) + 1)


@check(timeout=60.0)
def check_connections_over_tcp():
    """Of all that is connected only streams to an address of IPv4 or IPv6."""
    with deeds(["net_tcp_connect"], SCRIPT) as (found, _, facts):
        wanted = [facts[f"server{family}"] for family in families(facts)]
        equal(
            [arguments(event) for event in found["net_tcp_connect"]],
            [{"dst": host, "dst_port": int(port), "dst_dns": []} for _, host, port in wanted],
        )
        assert wanted or not os.path.exists("/proc/net/tcp")
