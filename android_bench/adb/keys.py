"""RSA keys with which this computer authenticates to a phone.

The keys of adb itself are used, so that a phone that trusts this computer already does
not ask again. Where there are none, a key is made in the same place, readable by its
owner only.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from android_bench.errors import BenchError

VENDOR_KEYS = "ADB_VENDOR_KEYS"
USER_KEY = Path(".android") / "adbkey"


def key_files(
    key: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> list[Path]:
    """Private keys to try, in order; the first is the one a phone is asked to trust.

    Args:
        key: use this one only.

    Raises:
        BenchError: a key that was named is not there, or none can be made.
    """
    if key is not None:
        if not key.is_file():
            raise BenchError(
                f"No adb key at {key}; give the path of a private key such as"
                " ~/.android/adbkey, or leave it out."
            )
        return [key]
    user_key = (home or Path.home()) / USER_KEY
    if not user_key.is_file():
        make_key(user_key)
    return [user_key, *_vendor_keys(environ.get(VENDOR_KEYS, ""))]


def _vendor_keys(text: str) -> list[Path]:
    """Files, and folders of ``*.adb_key``, as adb reads them."""
    found: list[Path] = []
    for part in filter(None, text.split(os.pathsep)):
        path = Path(part)
        found += sorted(path.glob("*.adb_key")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def make_key(path: Path) -> None:
    """Makes a key pair at ``path`` (0600) and ``path.pub``, whole or not at all.

    Raises:
        BenchError: the folder cannot be written.
    """
    from adb_shell.auth.keygen import keygen

    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # Only its owner can enter the temporary folder: no moment of a readable key.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            keygen(str(fresh))
            fresh.chmod(0o600)
            os.replace(f"{fresh}.pub", f"{path}.pub")
            os.replace(fresh, path)
    except OSError as error:
        raise BenchError(
            f"No adb key can be made at {path} ({error.strerror}); make its folder"
            " writable, or name a key."
        ) from error


def load_signers(paths: list[Path]) -> list[Signer]:
    """A signer for each key, as adb_shell takes them.

    Raises:
        BenchError: the first key cannot be read; others are left out then.
    """
    signers = []
    for number, path in enumerate(paths):
        try:
            signers.append(Signer(path))
        except (OSError, ValueError, TypeError) as error:
            if number == 0:
                raise BenchError(
                    f"The adb key {path} cannot be used ({error}); delete it and its"
                    " .pub file to have a new one made."
                ) from error
    return signers


class Signer:
    """A signer of adb_shell that does not need the ``.pub`` file to exist."""

    def __init__(self, path: Path) -> None:
        from adb_shell.auth.keygen import encode_pubkey, get_user_info
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("it is no RSA key")
        self._key = key
        public = Path(f"{path}.pub")
        if public.is_file():
            self._public = public.read_bytes().strip()
        else:
            self._public = base64.b64encode(encode_pubkey(str(path)))
            self._public += get_user_info().encode()

    def Sign(self, data: bytes) -> bytes:  # noqa: N802 (adb_shell's interface)
        from cryptography.hazmat.primitives.asymmetric import padding, utils
        from cryptography.hazmat.primitives.hashes import SHA1

        signature: bytes = self._key.sign(
            data,
            padding.PKCS1v15(),
            utils.Prehashed(SHA1()),  # noqa: S303 (adb's protocol)
        )
        return signature

    def GetPublicKey(self) -> bytes:  # noqa: N802 (adb_shell's interface)
        return self._public
