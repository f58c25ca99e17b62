"""The only room that knows GPUs: choosing, sharing, and counting memory. May import errors."""
