import struct
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idx_files import compress, encode_idx, numbered_images

from firstspike.data.idx import check_pair, decode_idx, read_content
from firstspike.support import InputError

PATH = Path("some-file")
IMAGES = numbered_images(4)
CONTENT = encode_idx(IMAGES)


def assert_one_line_naming(message: str, path: Path) -> None:
    assert "\n" not in message
    assert str(path) in message


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)))
def test_what_is_written_is_read(array):
    read = decode_idx(encode_idx(array), PATH, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_a_file_written_by_hand():
    content = bytes.fromhex("00000802 00000002 00000003 010203 0405ff")
    assert decode_idx(content, PATH, 2).tolist() == [[1, 2, 3], [4, 5, 255]]


@given(st.binary(max_size=40))
def test_any_bytes_give_an_array_or_an_input_error(content):
    try:
        array = decode_idx(content, PATH, 1)
    except InputError as error:
        assert_one_line_naming(str(error), PATH)
    else:
        assert encode_idx(array) == content


@given(st.integers(0, len(CONTENT) - 1))
def test_every_truncation_is_noticed(length):
    with pytest.raises(InputError) as caught:
        decode_idx(CONTENT[:length], PATH, 3)
    assert_one_line_naming(str(caught.value), PATH)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "found an empty file"),
        (b"<!DOCTYPE html>", r"00 00 08 03\), found first bytes 3c 21 44 4f"),
        (b"\0\0\x08", "found first bytes 00 00 08"),
        (b"\0\0\x07\x03" + CONTENT[4:], "found first bytes 00 00 07 03"),
        (b"\0\0\x0d\x03" + CONTENT[4:], "uint8 with 3 dimension.*found float32"),
        (encode_idx(np.zeros(7)), r"3 dimension\(s\), found 1;"),
        (CONTENT[:11], "truncated: expected a header of 16 bytes, found 11"),
        (CONTENT[:-1], "truncated: expected 40 bytes for 4 x 2 x 3 values, found 39"),
        (CONTENT + b"\0", "bytes after the end: expected 40 bytes for 4 x 2 x 3.*found 41"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3), "truncated"),
    ],
)
def test_wrong_content_says_expected_and_found(content, match):
    with pytest.raises(InputError, match=match) as caught:
        decode_idx(content, PATH, 3)
    assert_one_line_naming(str(caught.value), PATH)


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("stored", [CONTENT, compress(CONTENT)], ids=["uncompressed", "compressed"])
def test_content_is_uncompressed_whatever_the_name(tmp_path, name, stored):
    (tmp_path / name).write_bytes(stored)
    assert read_content(tmp_path / name) == CONTENT


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda z: z[: len(z) // 2], id="truncated"),
        pytest.param(lambda z: z[:2], id="only the magic"),
        pytest.param(lambda z: z[:12] + b"\xff\xff\xff" + z[15:], id="damaged stream"),
        pytest.param(lambda z: z[:-8] + b"\0\0\0\0" + z[-4:], id="wrong crc"),
    ],
)
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(compress(CONTENT)))
    with pytest.raises(InputError, match="expected a whole gzip file") as caught:
        read_content(path)
    assert_one_line_naming(str(caught.value), path)


@pytest.mark.parametrize("after", [bytes(512), b"more", b"\x1f", compress(b"")], ids=repr)
def test_bytes_after_the_gzip_stream_are_passed_over(tmp_path, after):
    path = tmp_path / "images.gz"
    path.write_bytes(compress(CONTENT) + after)
    assert read_content(path) == CONTENT


def test_a_gzip_file_in_several_parts_is_read_whole(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(compress(CONTENT[:9]) + compress(CONTENT[9:]))
    assert read_content(path) == CONTENT


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path / "nothing")


def test_files_that_fit_are_accepted():
    check_pair(IMAGES, np.array([0, 9, 3, 3], np.uint8), 10, Path("i"), Path("l"))
    check_pair(IMAGES[:0], np.zeros(0, np.uint8), 10, Path("i"), Path("l"))


def test_different_counts_are_refused():
    with pytest.raises(InputError, match=r"^l: expected 4 labels, .* of i, found 3;"):
        check_pair(IMAGES, np.zeros(3, np.uint8), 10, Path("i"), Path("l"))


def test_a_label_out_of_range_is_refused():
    labels = np.array([0, 9, 10, 11], np.uint8)
    with pytest.raises(InputError, match=r"^l: .* 0 \.\.\. 9, found 10 at image 2;"):
        check_pair(IMAGES, labels, 10, Path("i"), Path("l"))
