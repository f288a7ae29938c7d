"""Requests from other programs: `swrk FD`, for the one client that started it, and `service`, for whoever connects.

    link.py      a connection: packets, time-outs, who is at the other end
    fields.py    criu_opts becomes Options, by the table that the command line uses
    requests.py  what each request does
    client.py    the client as a verb sees it: to be told of steps, asked, answered
    session.py   a connection from its first request to its end
    page_server.py   page servers that are asked for by request
    swrk.py, service.py   the two verbs; listener.py and warm.py are the service's

The protocol is one message of proto/rpc.proto a packet. docs/rpc.md tells what a client may rely on.
"""
