"""Protocols as pure functions: bytes to arrays, arrays to bytes; nothing here awaits or knows HTTP."""
