"""Forms as curl, browsers and requests send them, and as nobody should."""

from __future__ import annotations

import pytest

from deployments.errors import InvalidInput
from serve_app.protocols.image.codec import looks_like_picture
from serve_app.protocols.multipart import first_file

TYPE = b"multipart/form-data; boundary=XX"


def part(head: bytes, content: bytes) -> bytes:
    return b"--XX\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="x.jpg"\r\nContent-Type: image/jpeg'
FIELD = b'Content-Disposition: form-data; name="comment"'
END = b"--XX--\r\n"


def test_the_first_part_with_a_files_name_counts() -> None:
    second = FILE.replace(b"jpeg", b"png")
    body = part(FIELD, b"hello") + part(FILE, b"\xff\xd8\r\n\r\n--X\r\nx") + part(second, b"2") + END
    assert first_file(body, TYPE) == (b"image/jpeg", b"\xff\xd8\r\n\r\n--X\r\nx")


@pytest.mark.parametrize("head", [FILE.lower(), FILE.replace(b"filename=", b"filename*=UTF-8''")])
def test_names_are_read_whatever_their_case(head: bytes) -> None:
    assert first_file(part(head, b"1") + END, TYPE) == (b"image/jpeg", b"1")


def test_a_preamble_a_quoted_boundary_and_an_empty_file() -> None:
    body = b"preamble\r\n" + part(FILE, b"") + END
    assert first_file(body, b'Multipart/Form-Data; Boundary="XX"') == (b"image/jpeg", b"")


def test_a_file_without_a_type_has_none() -> None:
    head = FILE.split(b"\r\n")[0]
    assert first_file(part(head, b"1") + END, TYPE) == (b"", b"1")


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", b"multipart/form-data", "expected a boundary"),
        (b"", TYPE, "expected a part with a file"),
        (b"--YY\r\n", TYPE, "no such boundary"),
        (part(FIELD, b"x") + END, TYPE, "expected a part with a file"),
        (part(FILE, b"x"), TYPE, "cut off"),
        (b"--XX", TYPE, "cut off"),
        (b"--XX\r\n" + FILE, TYPE, "cut off"),
        (b"--XX\r\n" + FILE + b"\r\n--XX--", TYPE, "cut off"),
    ],
)
def test_what_is_no_form_with_a_file_is_refused(body: bytes, content_type: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        first_file(body, content_type)


def test_pictures_are_known_by_their_first_bytes() -> None:
    assert looks_like_picture(b"RIFF\0\0\0\0WEBP")
    assert not looks_like_picture(b'{"inputs": []}')
