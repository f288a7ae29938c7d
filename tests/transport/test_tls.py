"""Both sides of an encrypted connection prove who they are, or nothing is sent."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CrError
from engine.images.runs import PRESENT
from engine.options import Options
from engine.transport import tls
from engine.transport.channel import Channel
from tests.transport.conftest import PATIENCE

_HERE = Path(__file__).parent / "certificates"


def _options(name: str, **more: Any) -> Options:
    opts = Options()
    opts.tls = True
    opts.address = "localhost"
    opts.tls_cacert = str(_HERE / "ca.pem")
    opts.tls_cert, opts.tls_key = str(_HERE / f"{name}.pem"), str(_HERE / f"{name}.key")
    for option, value in more.items():
        setattr(opts, option, value)
    return opts


def _meet(client: Options, server: Options) -> tuple[Channel | CrError, Channel | CrError]:
    """What both sides come to, client first."""
    ends = socket.socketpair()
    found: list[Channel | CrError] = []

    def serve() -> None:
        try:
            found.append(tls.channel(server, ends[1], "the client", PATIENCE, is_server=True))
        except CrError as error:
            ends[1].close()
            found.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    mine: Channel | CrError
    try:
        mine = tls.channel(client, ends[0], "the server", PATIENCE, is_server=False)
    except CrError as error:
        ends[0].close()
        mine = error
    thread.join()
    return mine, found[0]


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1"])
def test_what_is_sent_arrives(tmp_path: Path, address: str) -> None:
    client, server = _meet(_options("good", address=address), _options("good"))
    assert isinstance(client, Channel)
    assert isinstance(server, Channel)
    content = bytes(range(256)) * 8000
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        sender = threading.Thread(target=client.send_file, args=(file.fileno(), 1000, len(content) - 1000))
        sender.start()
        assert server.receive(len(content) - 1000) == content[1000:]
        sender.join()
    server.send(b"all of it")
    assert client.receive(9) == b"all of it"
    assert client.for_tasks == -1
    client.close()
    with pytest.raises(CrError, match=r"the client has ended the connection|the connection to the client has failed"):
        server.receive(1)
    server.close()


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (_options("selfsigned"), "self.signed certificate"),
        (_options("expired"), "certificate has expired"),
        (_options("revoked"), "certificate revoked"),
        (_options("elsewhere"), "Hostname mismatch"),
    ],
)
def test_servers_that_are_not_trusted(server: Options, why: str) -> None:
    mine, its = _meet(_options("good", tls_cacrl=str(_HERE / "crl.pem")), server)
    assert isinstance(its, CrError | Channel)
    with pytest.raises(CrError, match=rf"the server and we come to no agreement.*its certificate is refused: .*{why}"):
        raise mine if isinstance(mine, CrError) else AssertionError(mine)


@pytest.mark.parametrize("client", ["selfsigned", "expired", "revoked"])
def test_clients_that_are_not_trusted(client: str) -> None:
    """With TLS 1.3 a client has done its part before the server looks at its certificate; it is told later."""
    mine, its = _meet(_options(client), _options("good", tls_cacrl=str(_HERE / "crl.pem")))
    assert isinstance(its, CrError)
    assert "the client and we come to no agreement by TLS: its certificate is refused" in its.message
    if isinstance(mine, Channel):
        with pytest.raises(CrError, match="the connection to the server has failed: .*alert|has ended"):
            mine.receive(1)
        mine.close()


def test_another_name_can_be_allowed() -> None:
    mine, its = _meet(_options("good", tls_no_cn_verify=True, address=None), _options("elsewhere"))
    for channel in mine, its:
        assert isinstance(channel, Channel)
        channel.close()


def test_without_a_name_there_is_nothing_to_compare() -> None:
    ours, its = socket.socketpair()
    with ours, its, pytest.raises(CrError, match=r"compares the certificate with --address"):
        tls.channel(_options("good", address=None), ours, "the server", PATIENCE, is_server=False)


def test_a_peer_that_does_not_encrypt() -> None:
    ours, its = socket.socketpair()
    with its:
        its.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(PRESENT))
        with pytest.raises(CrError, match="the client and we come to no agreement by TLS: "):
            tls.channel(_options("good"), ours, "the client", PATIENCE, is_server=True)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"tls_cacert": "/nonexistent"}, "--tls-cacert: /nonexistent can't be used: No such file"),
        ({"tls_cacrl": __file__}, "--tls-cacrl: .* can't be used"),
        ({"tls_cert": "/nonexistent"}, "--tls-cert and --tls-key: /nonexistent, .* can't be used"),
        ({"tls_key": str(_HERE / "expired.key")}, "can't be used: key values mismatch"),
    ],
)
def test_files_that_are_of_no_use(changed: dict[str, str], why: str) -> None:
    with pytest.raises(CrError, match=why):
        tls.context(_options("good", **changed), for_server=True)
