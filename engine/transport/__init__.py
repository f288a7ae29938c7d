"""Images that go over a connection: page servers, proxies, lazy pages.

    sink.py          where a dump's page maps go: to files, or one of the ways below; stream.py has what these share
    channel.py       a connection to a peer that may be slow, vanish or lie; tls.py the same, encrypted

Page servers (docs/page-server.md):

    protocol.py      the messages
    endpoint.py      how both sides find each other
    page_client.py   the dump's side
    page_server.py   the verb page-server; received.py has the page maps that arrive

Remote images (docs/remote.md):

    frames.py        the messages
    remote_endpoints.py   how all sides find each other
    remote_images.py      what dump and restore have for an images directory; remote_writer.py sends
    image_proxy.py, image_cache.py   the verbs; image_store.py has what a cache holds, sessions.py what both share
"""
