"""--tls: the connection to a page server is encrypted, and both sides prove by certificates who they are."""

from __future__ import annotations

import os
import select
import socket
import ssl
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.option import EBADRQC
from engine.transport.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options

_CACERT, _CACRL = "/etc/pki/CA/cacert.pem", "/etc/pki/CA/cacrl.pem"
_CERT, _KEY = "/etc/pki/criu/cert.pem", "/etc/pki/criu/private/key.pem"
_WINDOW = 1 << 18


def context(opts: Options, for_server: bool) -> ssl.SSLContext:
    """What holds for the connection. Raises CrError for files that can't be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if for_server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = not for_server and not opts.tls_no_cn_verify
    made.verify_mode = ssl.CERT_REQUIRED
    if opts.tls_cacert or os.path.exists(_CACERT):
        _load("--tls-cacert", opts.tls_cacert or _CACERT, made.load_verify_locations)
    else:
        made.load_default_certs(ssl.Purpose.CLIENT_AUTH if for_server else ssl.Purpose.SERVER_AUTH)
    if opts.tls_cacrl or os.path.exists(_CACRL):
        _load("--tls-cacrl", opts.tls_cacrl or _CACRL, made.load_verify_locations)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    cert, key = opts.tls_cert or _CERT, opts.tls_key or _KEY
    _load("--tls-cert and --tls-key", f"{cert}, {key}", lambda _: made.load_cert_chain(cert, key, _no_password))
    return made


def channel(opts: Options, sock: socket.socket, peer: str, patience: float, is_server: bool) -> Channel:
    """Shake hands. Raises CrError when the peer can't prove who it is."""
    rules = context(opts, is_server)
    if rules.check_hostname and opts.address is None:
        raise CrError("--tls compares the certificate with --address (give it, or --tls-no-cn-verify)", EBADRQC)
    name = opts.address if rules.check_hostname else None
    sock.settimeout(patience)
    try:
        wrapped = rules.wrap_socket(sock, server_side=is_server, server_hostname=name)
    except OSError as error:
        raise CrError(f"{peer} and we come to no agreement by TLS: {_text_of(error)}") from error
    return TlsChannel(wrapped, peer, patience)


class TlsChannel(Channel):
    """A connection that only the engine can write to."""

    _socket: ssl.SSLSocket

    @property
    def for_tasks(self) -> int:
        return -1

    @property
    def has_more(self) -> bool:
        return bool(self._socket.pending())

    def send_file(self, fd: int, offset: int, size: int) -> None:
        while size:
            content = os.pread(fd, min(size, _WINDOW), offset)
            if not content:
                raise EOFError(f"the file ends at byte {offset}, {size} more are wanted")
            self.send(content)
            offset, size = offset + len(content), size - len(content)

    def failed(self, error: OSError) -> CrError:
        return CrError(f"the connection to {self.peer} has failed: {_text_of(error)}")

    def _attempt(self, attempt: Callable[[], int], event: int) -> int:
        """A renewal of keys may have to be read before anything can be sent, and the other way round."""
        while True:
            try:
                return attempt()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)


def _load(option: str, path: str, load: Callable[[str], None]) -> None:
    try:
        load(path)
    except OSError as error:
        raise CrError(f"{option}: {path} can't be used: {_text_of(error)}", EBADRQC) from error


def _no_password() -> str:
    """Nobody is there to be asked."""
    raise CrError("--tls-key: the key is encrypted; give one that isn't", EBADRQC)


def _text_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)
