"""Metadata in the files that are written: how a sample was made travels with it, in the place that each format has."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import aside
from ddmi.rendering.tiff import TIFF

KEY = "ddmi"
"""What the entry is called where a format gives names to them."""
LARGEST = 60_000
"""Characters of an entry: a comment of a JPEG has no room for more."""
GLTF = b"glTF"
PNG = b"\x89PNG\r\n\x1a\n"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description>{}</dc:description>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def stamp(path: str | Path, metadata: Mapping[str, Any]) -> bool:
    """Write metadata into a file that exists; nothing else in it changes. False for a format that has no place for it,
    and for metadata beyond LARGEST.

    The file is written aside, then renamed; the description of a TIFF, which may be of any size, is changed in place.
    """
    path, text = Path(path), json.dumps(metadata)
    if len(text) > LARGEST:
        return False
    if path.suffix.lower() in TIFF:
        _tiff(path, text)
    elif path.suffix.lower() in _MUXERS:
        _remux(path, text)
    elif (put := _PUT.get(path.suffix.lower())) and path.is_file():
        changed = put(path.read_bytes(), text)
        with aside(path) as scratch:
            scratch.write_bytes(changed)
    else:
        return False
    return True


def read(path: str | Path) -> dict[str, Any]:
    """The metadata that `stamp` has put into a file; none where there are none.

    Raises:
        UserError: the file does not exist, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} {'is a folder: name a file' if path.is_dir() else 'does not exist'}")
    ending = path.suffix.lower()
    try:
        if ending in TIFF:
            text = _tiff(path)
        elif ending in _MUXERS:
            text = _comment(path)
        else:
            text = _GET[ending](path.read_bytes()) if ending in _GET else None
    except (ValueError, LookupError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    try:
        found = json.loads(text or "{}")
    except ValueError:  # a comment of somebody else
        return {}
    return found if isinstance(found, dict) else {}


# images ---------------------------------------------------------------------------------------------------------------


def _put_png(data: bytes, text: str) -> bytes:
    """As an iTXt chunk before the pixels."""
    body = KEY.encode() + b"\0\0\0\0\0" + text.encode()  # uncompressed, no language
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    end = len(PNG) + 25  # of IHDR
    return data[:end] + chunk + data[end:]


def _get_png(data: bytes) -> str | None:
    start = len(PNG)
    while start + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        kind, body = data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        if kind == b"iTXt" and body.startswith(KEY.encode() + b"\0\0\0\0\0"):
            return body[len(KEY) + 5 :].decode()
        start += 12 + length
    return None


def _put_jpeg(data: bytes, text: str) -> bytes:
    """As a comment, behind the header that has to come first."""
    body = text.encode()
    start = 4 + struct.unpack_from(">H", data, 4)[0] if data[2:4] == b"\xff\xe0" else 2
    return data[:start] + b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body + data[start:]


def _get_jpeg(data: bytes) -> str | None:
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, start + 2)
        if data[start + 1] == 0xFE:
            return data[start + 4 : start + 2 + length].decode()
        start += 2 + length
    return None


def _put_gif(data: bytes, text: str) -> bytes:
    """As a comment extension in blocks of 255 bytes, behind the header and its palette."""
    body, start = text.encode(), _blocks_of(data)
    parts = [body[k : k + 255] for k in range(0, len(body), 255)]
    comment = b"\x21\xfe" + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    return data[:start] + comment + data[start:]


def _get_gif(data: bytes) -> str | None:
    start, found = _blocks_of(data), b""
    if data[start : start + 2] != b"\x21\xfe":
        return None
    start += 2
    while data[start]:
        found += data[start + 1 : start + 1 + data[start]]
        start += 1 + data[start]
    return found.decode()


def _blocks_of(data: bytes) -> int:
    """Where the blocks of a GIF begin."""
    return 13 + (3 * 2 ** (data[10] % 8 + 1) if data[10] & 128 else 0)


def _put_webp(data: bytes, text: str) -> bytes:
    """As XMP, for which a file of one chunk becomes one of the extended format."""
    import io

    from PIL import Image

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    body = data[12:]
    if body[:4] == b"VP8X":
        body = body[:8] + bytes([body[8] | 4]) + body[9:]
    else:
        image = Image.open(io.BytesIO(data))
        width, height = (struct.pack("<I", side - 1)[:3] for side in image.size)
        alpha = 16 if image.mode == "RGBA" else 0
        body = chunk(b"VP8X", bytes([4 | alpha, 0, 0, 0]) + width + height) + body
    body += chunk(b"XMP ", XMP.format(escape(text)).encode())
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _get_webp(data: bytes) -> str | None:
    start = 12
    while start + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, start + 4)
        if data[start : start + 4] == b"XMP ":
            told = data[start + 8 : start + 8 + length].decode()
            return unescape(told.partition("<dc:description>")[2].partition("</dc:description>")[0])
        start += 8 + length + length % 2
    return None


def _tiff(path: Path, text: str | None = None) -> str | None:
    """The description of a TIFF, replaced where a text is given."""
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile", "gigapixel") from error
    try:
        found = tifffile.tiffcomment(path, text)
        return found.decode(errors="replace") if isinstance(found, bytes) else found
    except tifffile.TiffFileError as error:
        raise ValueError(error) from error


# clips ----------------------------------------------------------------------------------------------------------------

_MUXERS: dict[str, dict[str, str]] = {".mp4": {"movflags": "faststart"}, ".webm": {}}


def _remux(path: Path, text: str) -> None:
    """The comment of the container; the packets of its one stream are copied."""
    import av

    kind, options = path.suffix[1:].lower(), _MUXERS[path.suffix.lower()]
    with (
        aside(path) as scratch,
        av.open(str(path)) as old,
        av.open(str(scratch), "w", format=kind, options=options) as new,
    ):
        new.metadata["comment"] = text
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:  # the empty one at the end
                packet.stream = stream
                new.mux(packet)


def _comment(path: Path) -> str | None:
    try:
        import av
    except ImportError as error:
        raise missing_extra("av", "video") from error
    try:
        with av.open(str(path)) as file:
            return {name.lower(): text for name, text in file.metadata.items()}.get("comment")
    except av.FFmpegError as error:
        raise ValueError(error) from error


# meshes ---------------------------------------------------------------------------------------------------------------


def _put_glb(data: bytes, text: str) -> bytes:
    """As `asset.extras` of glTF."""
    tree, binary = _gltf(data)
    tree["asset"].setdefault("extras", {})[KEY] = text
    plain = json.dumps(tree, separators=(",", ":")).encode()
    plain += b" " * (-len(plain) % 4)
    header = GLTF + struct.pack("<III", 2, 20 + len(plain) + len(binary), len(plain))
    return header + b"JSON" + plain + binary


def _get_glb(data: bytes) -> str | None:
    return _gltf(data)[0]["asset"].get("extras", {}).get(KEY)


def _gltf(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The description of a binary glTF, and the chunks behind it."""
    if data[:4] != GLTF or data[16:20] != b"JSON":
        raise ValueError("no binary glTF")
    (length,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + length]), data[20 + length :]


def _put_ply(data: bytes, text: str) -> bytes:
    """As a comment of the header, behind the line of the format."""
    lines = data.split(b"\n", 2)
    return b"\n".join([*lines[:2], f"comment {KEY} {text}".encode(), lines[2]])


def _put_obj(data: bytes, text: str) -> bytes:
    return f"# {KEY} {text}\n".encode() + data


def _get_line(data: bytes) -> str | None:
    """Of the first lines the one that is ours."""
    for line in data[: 4 * LARGEST].split(b"\n")[:20]:
        for start in (f"comment {KEY} ", f"# {KEY} "):
            if line.startswith(start.encode()):
                return line.removeprefix(start.encode()).decode()
    return None


_PUT: dict[str, Callable[[bytes, str], bytes]] = {
    ".png": _put_png,
    ".jpg": _put_jpeg,
    ".jpeg": _put_jpeg,
    ".gif": _put_gif,
    ".webp": _put_webp,
    ".glb": _put_glb,
    ".ply": _put_ply,
    ".obj": _put_obj,
}
_GET: dict[str, Callable[[bytes], str | None]] = {
    ".png": _get_png,
    ".jpg": _get_jpeg,
    ".jpeg": _get_jpeg,
    ".gif": _get_gif,
    ".webp": _get_webp,
    ".glb": _get_glb,
    ".ply": _get_line,
    ".obj": _get_line,
}
