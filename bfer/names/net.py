"""Sockets: families, types, options."""

from __future__ import annotations

from bfer.names import CHOICE, Kind

# include/linux/socket.h, in the order of their numbers; None where there is none.
_FAMILIES = (
    *("UNSPEC", "UNIX", "INET", "AX25", "IPX", "APPLETALK", "NETROM", "BRIDGE", "ATMPVC", "X25", "INET6", "ROSE"),
    *("DECnet", "NETBEUI", "SECURITY", "KEY", "NETLINK", "PACKET", "ASH", "ECONET", "ATMSVC", "RDS", "SNA", "IRDA"),
    *("PPPOX", "WANPIPE", "LLC", "IB", "MPLS", "CAN", "TIPC", "BLUETOOTH", "IUCV", "RXRPC", "ISDN", "PHONET"),
    *("IEEE802154", "CAIF", "ALG", "NFC", "VSOCK", "KCM", "QIPCRTR", "SMC", "XDP", "MCTP"),
)

KINDS = {
    "af": Kind(CHOICE, tuple([(f"AF_{name}", number) for number, name in enumerate(_FAMILIES)])),
}
