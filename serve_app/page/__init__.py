"""The web page, and what serves its files: types, ETag, content security policy. May import protocols.codec."""
