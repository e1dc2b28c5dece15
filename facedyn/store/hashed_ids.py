"""Ids of people as salted hashes: one can ask whether a person is among them, and the list names nobody.

Ids are short, and whoever has the list could try them all; so each hash is slow on purpose (scrypt, RFC 7914).
"""

import concurrent.futures
import functools
import hashlib
import os

COST = 2**12  # scrypt's n: some fifty hashes a second and core


def hashed(ids) -> dict:
    """{'salt', 'people'}: the hashes of the ids, in an order that tells nothing."""
    salt = os.urandom(16).hex()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:  # the hash lets other threads work
        return {"salt": salt, "people": sorted(threads.map(functools.partial(hash_of, salt=salt), set(ids)))}


def is_among(stored: dict, person_id: str) -> bool:
    """Whether the id is one of those that `hashed` was given; `stored` may name another cost."""
    return hash_of(person_id, stored["salt"], stored.get("cost", COST)) in stored["people"]


def hash_of(person_id: str, salt: str, cost: int = COST) -> str:
    """32 hexadecimal digits; salt: hexadecimal."""
    return hashlib.scrypt(person_id.encode(), salt=bytes.fromhex(salt), n=cost, r=8, p=1, dklen=16).hex()
