"""Load on an HTTP server, and what came of it: closed loops and an open Poisson loop; asyncio. May import protocols."""
