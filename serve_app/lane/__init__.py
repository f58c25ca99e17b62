"""The lane: one process of a node asks a model's replica on the same node directly, over a socket of the file system.

A request is its arrays' bytes behind a few numbers, answered on the replica's own event loop: no HTTP, no front door,
no name of a tensor twice. Who may open the socket is who owns the server's private folder, so no token travels. Where
there is no lane (another node, a plain `serve run`) there is HTTP, or Serve's handle.
May import the protocols' bytes of strings, `front`, and `deployments`' servable.
"""
