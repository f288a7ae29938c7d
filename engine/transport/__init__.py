"""Images that go over a connection: page servers, proxies, lazy pages."""
