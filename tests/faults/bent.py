"""Files that were bent: cut, flipped, of other types, nested, in no encoding; and attacks on their readers.

The generator is seeded, so a case that fails is made again by its number.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from attnseg.errors import UserError, one_line

COUNT = 200  # files
STRANGE = [
    None, True, -1, 0, 1, 10**30, 0.5, -1e308, float("nan"), float("inf"), "", " ", "x" * 300, "../../etc/passwd",
    "/etc/passwd", "a\nb", "a\0b", "\u202egnp.\u2066", "<script>alert(1)</script>", "$(touch x)", "'\"`;|&", "{x}",
    "\ud800", [], {}, [[]], [{}], {"": None}, {"a": [1]}, ["dog"], [[0, 1]], "dog",
]  # fmt: skip
BYTES = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\r", b'"', b"{", b"[", b",", b";", b":\n", b"\t- ", b"\xe2\x80\xae",
         b"&a *a", b"!!python/object/apply:os.system ['touch ran']", b"1" * 5000, b"'''", b"<!DOCTYPE x>", b"&x;"]  # fmt: skip
WHOLE = [b"", b"\n", b"null", b"[]", b"{}", b"[" * 20000, b'{"a":' * 20000, b"- " * 5000, b"PK\3\4"]


def bent(content: bytes, rng: random.Random) -> bytes:
    """Bytes that were cut, flipped, doubled, or have others in them."""
    how = rng.randrange(8)
    at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    if how == 0:
        return content[:at]
    if how == 1 and content:
        flipped = bytearray(content)
        flipped[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if how == 2:
        return content[:at] + content[end:]
    if how == 3:
        return content[:end] + content[at:]
    if how == 4:
        return content[:at] + rng.randbytes(rng.randrange(1, 40)) + content[at:]
    if how == 5:
        return rng.choice(WHOLE)
    return content[:at] + rng.choice(BYTES) + content[at:]


def strange(value: object, rng: random.Random) -> object:
    """A structure of which a part is missing, doubled, or of another kind."""
    value = copy.deepcopy(value)
    places: list[tuple] = []

    def walk(node: object) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not isinstance(value, dict | list) or rng.random() < 0.05:
            return rng.choice(STRANGE)
        places.clear()
        walk(value)
        if not places:
            return rng.choice(STRANGE)
        node, key = rng.choice(places)
        if rng.random() < 0.25:
            del node[key]
        elif rng.random() < 0.2 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif rng.random() < 0.15 and isinstance(node, dict):
            node[str(rng.choice(STRANGE))] = node.pop(key)
        else:
            node[key] = copy.deepcopy(rng.choice(STRANGE))
    return value


def texts(sound: bytes) -> Iterator[bytes]:
    """Files of another format than JSON or YAML."""
    rng = random.Random(0)
    for _ in range(COUNT):
        content = sound
        for _ in range(rng.choice([1, 1, 2, 4])):
            content = bent(content, rng)
        yield content


def structures(sound: object, write: Callable[[object], str]) -> Iterator[bytes]:
    """JSON or YAML, mostly well-formed."""
    rng = random.Random(1)
    for _ in range(COUNT):
        content = write(strange(sound, rng)).encode(errors="surrogatepass")
        yield bent(content, rng) if rng.random() < 0.3 else content


def as_json(sound: object) -> Iterator[bytes]:
    return structures(sound, json.dumps)


def as_yaml(sound: object) -> Iterator[bytes]:
    return structures(sound, lambda value: yaml.dump(value, allow_unicode=True))


def attack(
    contents: Iterator[bytes], folder: Path, name: str, read: Callable[[Path], object]
) -> int:
    """Have each content read from a file of this name, in a folder of its own; the number that was refused."""
    refused, read_, number = 0, 0, -1
    for number, content in enumerate(contents):
        path = folder / f"{number:03d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            read(path)
            read_ += 1
        except UserError as error:
            refused += 1
            said = one_line(error)  # as `run` prints it
            assert len(said) < 3000, f"case {number}: {said[:500]}"
            assert str(path.parent) in said, f"case {number} is not named: {said[:500]}"
        except Exception as error:
            error.add_note(f"case {number}: {content[:2000]!r}")
            raise
        assert not Path("ran").exists()
    assert number + 1 == COUNT and read_ + refused == COUNT and refused > COUNT // 10
    return refused
