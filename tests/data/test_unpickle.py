"""The restricted unpickler: what CIFAR's files need, and nothing that runs."""

import pickle
import re
import struct
import tracemalloc

import numpy as np
import pytest

from firstspike.data.unpickle import load_arrays
from firstspike.support import InputError


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4", "f4", "f8", "?"])
def test_arrays_lists_and_plain_values_come_back(protocol, kind):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    told = {b"data": array, "columns": np.asfortranarray(array), "labels": [1, 2], "more": ("a", None, 2.5)}
    read = load_arrays(pickle.dumps(told, protocol), "file")
    assert np.array_equal(read[b"data"], array)
    assert read[b"data"].dtype == array.dtype
    assert np.array_equal(read["columns"], array)
    assert (read["labels"], read["more"]) == ([1, 2], ("a", None, 2.5))


def test_an_array_of_python_2():
    # What numpy wrote there: type and byte order are byte strings too.
    content = pickle.dumps(np.array([[1, 2]], ">i4"), 2)
    content = content.replace(b"X\x02\x00\x00\x00i4", b"U\x02i4").replace(b"X\x01\x00\x00\x00>", b"U\x01>")
    assert b"U\x02i4" in content
    assert load_arrays(content, "file").tolist() == [[1, 2]]


def test_text_of_python_2_is_bytes():
    # protocol 2, SHORT_BINSTRING: {'labels': [7]}
    assert load_arrays(b"\x80\x02}U\x06labels]K\x07as.", "file") == {b"labels": [7]}


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        ("os.system", "mkdir {!r}", "system"),
        ("os.mkdir", "{}", "mkdir"),
        ("builtins.exec", "import os; os.mkdir({!r})", "exec"),
    ],
)
def test_a_hostile_file_is_refused_before_it_runs(tmp_path, protocol, function, argument, name):
    victim = tmp_path / "victim"
    module, attribute = function.split(".")
    call = getattr(__import__(module), attribute)
    content = pickle.dumps([Evil(call, (argument.format(str(victim)),))], protocol)
    with pytest.raises(InputError, match=rf"^cifar: refused, it asks for \S+\.{name}; "):
        load_arrays(content, "cifar")
    assert not victim.exists()
    pickle.loads(content)
    assert victim.exists(), "the file is hostile indeed"


def reduced(module, name, arguments, state=None):
    """A pickle that calls a name with arguments, and sets a state."""
    body = pickle.dumps(arguments, 2)[2:-1]
    body = b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R"
    if state is not None:
        body += pickle.dumps(state, 2)[2:-1] + b"b"
    return body + b"."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(np.array([object()], dtype=object)[:0], 2), "only numbers are read"),
        (pickle.dumps(np.array(["a"]), 2), "only numbers are read"),
        (pickle.dumps(np.array("2026-01-01", "M8[s]"), 2), "only numbers are read"),
        (pickle.dumps(np.zeros(2, [("a", "f4")]), 2), "only numbers are read"),
        (pickle.dumps({1, 2}, 4), "an operation that no array needs"),
        (pickle.dumps(1j, 2), "it asks for"),
        (pickle.dumps(np.float32(1), 2), "it asks for"),
        (reduced("_codecs", "encode", ("a", "rot13")), "converts text in an unknown way"),
        (reduced("numpy", "ndarray", ((2**40,),)), "calls something that is no array"),
        (reduced("numpy", "dtype", ("O8", False, True)), "only numbers are read"),
        (reduced("numpy.core.multiarray", "_reconstruct", (1, (0,), b"b")), "of an unknown class"),
        (reduced("numpy", "dtype", ("u1", False, True), (3, "x")), "damaged array type"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "sets the state of something that is no array"),
        (b"\x80\x02cnumpy\nndarray\n.", "it holds a ArrayType"),
        (b"\x80\x02U\x03abcQ.", "an object outside the file"),
        (b"\x80\x02" + b"]" * 30 + b"a" * 29 + b".", "nested too deeply"),
        # A list that holds itself.
        (b"\x80\x02]q\x00h\x00a.", "repeats itself"),
        (b"(S'a'\nios\nsystem\n.", "it asks for os.system;"),
        (b"\x80\x02\x82\x01.", "an operation that no array needs"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "an operation that no array needs"),
        # Names that would break the line, or fill it.
        (b"cos\x1b[31m\rx\nsystem\n.", r"it asks for os\x1b[31m\rx.system;"),
        (b"\x80\x04\x8c\x02o\n\x8c\x01s\x93.", r"it asks for o\n.s;"),
        (b"c" + b"a" * 10_000 + b"\nb\n.", f"it asks for {'a' * 80}...;"),
        (reduced("numpy", "dtype", ("u1" * 9_000,)), f"of type '{'u1' * 40}...', and only numbers"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_refused(content, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_arrays(content, "file")
    assert "\n" not in str(caught.value)


def test_an_array_must_have_the_size_that_it_claims():
    content = pickle.dumps(np.zeros((3, 5), np.uint8), 2)
    with pytest.raises(InputError, match=r"array of \(3, 99\) whose content has 15 bytes"):
        load_arrays(content.replace(b"K\x03K\x05", b"K\x03K\x63"), "file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps(list(range(1000)), 2)[:-7],
        b"\x80\x63.",
        b"\x80\x02h\x05.",
        # A memory cell far away, bytes that are not there: naming them must not reserve them.
        b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b"0.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    ],
)
def test_a_damaged_file_is_one_clear_line(content):
    with pytest.raises(InputError, match=r"^file: damaged or no pickle") as caught:
        load_arrays(content, "file")
    assert "\n" not in str(caught.value)


def nested(opening, copies, levels):
    """Tuples or lists in each other, each of which names the one before many times."""
    parts = [b"\x80\x02K\x01q\x00"]
    for level in range(levels):
        parts += [opening, (b"h" + bytes([level])) * copies, {b"(": b"t", b"](": b"e"}[opening]]
        parts += [b"q" + bytes([level + 1])]
    return b"".join(parts)


LONG_TEXT = b"X" + struct.pack("<I", 10_000) + b"a" * 10_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nested(b"(", 50, 18) + b".", "repeats itself"),
        (nested(b"](", 50, 18) + b".", "repeats itself"),
        # Python's hash of these would take years; that of the second overflows its stack.
        (nested(b"(", 3, 40) + b"0}h\x28K\x01s.", "a key that is no text"),
        (b"\x80\x02)" + b"\x85" * 200_000 + b"q\x00(h\x00K\x01d.", "a key that is no text"),
        (nested(b"(", 3, 40) + b"0}(U\x01aK\x01h\x28K\x01u.", "a key that is no text"),
        # 1,000 copies of one text.
        (
            b"\x80\x02c_codecs\nencode\nq\x00" + LONG_TEXT + b"X\x06\x00\x00\x00latin1\x86q\x01"
            b"](" + b"h\x00h\x01R" * 1_000 + b"e.",
            "repeats itself",
        ),
        # A bytearray of 2^40 bytes, which Python would reserve.
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.", "an operation that no array needs"),
        (reduced("numpy.core.multiarray", "_reconstruct", ((2**60,),)), "of an unknown class"),
    ],
)
def test_a_short_file_takes_little_memory_and_time(content, message):
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        load_arrays(content, "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 200,000 tuples in each other take 10 MB.
    assert peak < 30e6
