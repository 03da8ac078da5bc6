"""Which network addresses are public, and so may be fetched from. Knows nothing of names or connections.

A web address in a catalog is a stranger's wish. What answers only inside a network, the machine itself and the
metadata services of clouds among it, must not be reached through it, however the address is written.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["is_public"]

# The registries of special addresses (RFC 6890 and its updates), so that no version of Python decides; and
# 168.63.129.16, which is public in name but answers each machine of a cloud with that machine's own secrets.
_SPECIAL_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)

# All of IPv6 that is given out is in 2000::/3. Teredo (2001::/32) and 6to4 (2002::/16) carry an IPv4 address inside,
# and no server of today lives there.
_GIVEN_OUT_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def is_public(address: str) -> bool:
    """Whether an address in digits belongs to the public internet. IPv6 that stands for IPv4 is judged as that."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return _is_public_v4(parsed) if isinstance(parsed, IPv4Address) else _is_public_v6(parsed)


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return _is_public_v4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    given_out = address in _GIVEN_OUT_V6 and address.is_global and not address.is_multicast
    return given_out and not any(address in network for network in _SPECIAL_V6)
