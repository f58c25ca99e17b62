"""Load on an HTTP server, and what came of it: closed loops and an open Poisson loop, in plain asyncio. May import protocols."""
