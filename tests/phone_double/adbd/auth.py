"""Whom the phone trusts: RSA keys in adb's own format, verified for real."""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
import threading
from dataclasses import dataclass

TOKEN_BYTES = 20
TOKEN, SIGNATURE, RSAPUBLICKEY = 1, 2, 3

_KEY_BYTES = 256
# modulus size in words, n0inv, modulus and R^2 (little endian), exponent.
_KEY = struct.Struct(f"<II{_KEY_BYTES}s{_KEY_BYTES}sI")
# PKCS #1 v1.5 says with this that a SHA-1 digest follows: adb signs the token as one.
_SHA1_PREFIX = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass(frozen=True)
class PublicKey:
    """An RSA key of 2048 bits."""

    modulus: int
    exponent: int

    def verifies(self, token: bytes, signature: bytes) -> bool:
        """Whether the holder of the private key signed the token."""
        number = int.from_bytes(signature, "big")
        if len(signature) != _KEY_BYTES or number >= self.modulus:
            return False
        opened = pow(number, self.exponent, self.modulus).to_bytes(_KEY_BYTES, "big")
        tail = b"\x00" + _SHA1_PREFIX + token
        wanted = b"\x00\x01" + b"\xff" * (_KEY_BYTES - 2 - len(tail)) + tail
        return hmac.compare_digest(opened, wanted)


def parse_public_key(text: bytes) -> PublicKey:
    """A line of ``adbkey.pub``: base64, a blank, who made it; maybe a NUL at the end.

    Raises:
        ValueError: it is no such key.
    """
    encoded = text.split(b"\0")[0].split(b" ")[0].strip()
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an adb public key is base64; got {text[:40]!r}") from error
    if len(raw) != _KEY.size:
        raise ValueError(f"an adb public key has {_KEY.size} bytes; got {len(raw)}")
    words, n0inv, modulus_bytes, rr_bytes, exponent = _KEY.unpack(raw)
    modulus = int.from_bytes(modulus_bytes, "little")
    if words != _KEY_BYTES // 4 or exponent not in (3, 65537) or modulus % 2 == 0:
        raise ValueError(f"no RSA key of 2048 bits: {words} words, exponent {exponent}")
    if (modulus * n0inv + 1) % 2**32 or int.from_bytes(rr_bytes, "little") != pow(
        2, 16 * _KEY_BYTES, modulus
    ):
        raise ValueError("the key's Montgomery numbers do not fit its modulus")
    return PublicKey(modulus, exponent)


class Trust:
    """Which keys open the phone, and what its owner does when a new one asks.

    Attributes:
        required: False: the phone asks for no key at all.
        tap_after_s: the owner allows a new key after so many seconds; None: never.
        asked: keys that were shown to the owner.
    """

    def __init__(self, required: bool = True, tap_after_s: float | None = 0.0) -> None:
        self.required = required
        self.tap_after_s = tap_after_s
        self.asked: list[PublicKey] = []
        self._known: set[PublicKey] = set()
        self._lock = threading.Lock()

    def add(self, key: PublicKey) -> None:
        with self._lock:
            self._known.add(key)

    def verifies(self, token: bytes, signature: bytes) -> bool:
        with self._lock:
            known = list(self._known)
        return any(key.verifies(token, signature) for key in known)

    def revoke(self) -> None:
        """Forgets all keys; nobody is let in any more."""
        with self._lock:
            self._known.clear()
        self.required, self.tap_after_s = True, None
