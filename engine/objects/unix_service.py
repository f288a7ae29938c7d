"""The socket of a process that has asked a service to dump it (docs/rpc.md), when the process is restored."""

from __future__ import annotations

from engine.images.schema import enum, message


def answer_of_self_dump() -> bytes:
    """The answer to its request, which it has waited for ever since, as a packet. It tells the restored process from
    one that runs on after the dump."""
    answer = message("criu_resp")(type=enum("criu_req_type")["DUMP"], success=True)
    answer.dump.restored = True
    return bytes(answer.SerializeToString())
