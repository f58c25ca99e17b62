"""Models from elsewhere: a URI becomes a local path, downloaded once per node; imports no TensorFlow.

`addresses` says what a URI is, `remote` talks to its server, `archives` unpacks, `checksum` hashes, and `cache` joins
them: one folder a URI and revision, filled under a lock and moved into place whole.
"""

from deployments.fetching.addresses import is_remote, shown
from deployments.fetching.cache import Fetched, at_path, fetch, require_sign
from deployments.fetching.listing import Folder
from deployments.fetching.remote import Remote, describe

__all__ = ["Fetched", "Folder", "Remote", "at_path", "describe", "fetch", "is_remote", "require_sign", "shown"]
