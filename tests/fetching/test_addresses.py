"""Which addresses are public."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrec.sources.fetch.guard import is_public

_PRIVATE_V4 = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),  # noqa: S104 - it is not bound
    *("192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("168.63.129.16", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7"),
    *("203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
)
_PUBLIC_V4 = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "223.255.255.1")


def _inside_v6(address: str) -> list[str]:
    """All the ways in which IPv6 carries an IPv4 address."""
    number = int(IPv4Address(address))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    flipped = number ^ 0xFFFFFFFF
    return [
        f"::ffff:{address}",
        f"::ffff:{high}:{low}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        f"2002:{high}:{low}::1",
        f"2001:0:4136:e378:8000:63bf:{flipped >> 16:x}:{flipped & 0xFFFF:x}",
        f"2606:4700::5efe:{address}",
        f"2606:4700::200:5efe:{address}",
        f"fe80::5efe:{address}",
        f"::ffff:0:{address}",
    ]


@pytest.mark.parametrize("address", _PRIVATE_V4)
def test_what_is_not_public_in_ipv4_is_not_in_ipv6_either(address):
    assert not is_public(address)
    assert [form for form in _inside_v6(address) if is_public(form)] == []


@pytest.mark.parametrize("address", _PUBLIC_V4)
def test_public_ipv4_is_public_where_ipv6_only_stands_for_it(address):
    assert is_public(address)
    assert is_public(f"::ffff:{address}")
    assert is_public(f"64:ff9b::{address}")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "2606:4700::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
        ),
        *("2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001::1", "2001:10::1", "2001:20::1", "4000::1"),
    ],
)
def test_special_ipv6_is_not_public(address):
    assert not is_public(address)


def test_given_out_ipv6_is_public():
    assert is_public("2606:4700:4700::1111")
    assert is_public("2a00:1450:4001:81b::200e")


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "1.1.1.1 ", "1.1.1", "[::1]", "1.1.1.1/8"],
)
def test_what_is_no_address_in_digits_is_not_public(text):
    assert not is_public(text)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_nothing_is_public_that_pythons_own_tables_call_special(address):
    special = not address.is_global or address.is_multicast or address.is_reserved or address.is_loopback
    if special and (isinstance(address, IPv4Address) or (address.ipv4_mapped is None and not _is_nat64(address))):
        assert not is_public(str(address))


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_stands_for(address):
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))


@given(st.text(max_size=40))
def test_any_text_has_an_answer(text):
    if is_public(text):
        assert ip_address(text).is_global


def _is_nat64(address: IPv6Address) -> bool:
    return int(address) >> 32 == int(IPv6Address("64:ff9b::")) >> 32
