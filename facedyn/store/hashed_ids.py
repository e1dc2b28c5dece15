"""Ids of people as salted hashes: one can ask whether a person is among them, and the list names nobody.

Ids are short, and whoever has the list could try them all; so each hash is slow on purpose (scrypt, RFC 7914).
"""

import concurrent.futures
import functools
import hashlib
import os

COST = dict(n=2**12, r=8, p=1)  # some fifty hashes a second and core


def hashed(ids) -> dict:
    """{'salt', 'people'}: the hashes of the ids, in an order that tells nothing."""
    salt = os.urandom(16).hex()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:  # the hash lets other threads work
        return {"salt": salt, "people": sorted(threads.map(functools.partial(_hash, salt=salt), set(ids)))}


def is_among(stored: dict, person_id: str) -> bool:
    """Whether the id is one of those that `hashed` was given."""
    return _hash(person_id, stored["salt"]) in stored["people"]


def _hash(person_id: str, salt: str) -> str:
    return hashlib.scrypt(person_id.encode(), salt=bytes.fromhex(salt), **COST, dklen=16).hex()
