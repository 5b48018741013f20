from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.wire import LIMIT, WireError, decode, encode, peer_is_us, receive, split


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        yield left, right


def test_messages_come_out_of_a_stream_as_they_went_in() -> None:
    messages = [{"msg": "hello", "n": number, "text": "ü" * number} for number in range(5)]
    stream = b"".join(encode(message) for message in messages)
    buffer, seen = bytearray(), []
    for index in range(len(stream)):
        buffer += stream[index : index + 1]
        seen += split(buffer)

    assert seen == messages
    assert not buffer


def test_a_descriptor_comes_with_its_message_and_not_with_its_neighbours(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    left, right = pair
    (tmp_path / "patch").write_text("the patch")
    with (tmp_path / "patch").open() as file:
        left.sendall(encode({"n": 1}))
        socket.send_fds(left, [encode({"n": 2})], [file.fileno()])
        left.sendall(encode({"n": 3}))
    received = [receive(right) for _ in range(3)]

    assert [pair[0]["n"] for pair in received if pair] == [1, 2, 3]
    first, second, third = (pair[1] for pair in received if pair)
    assert first is None
    assert third is None
    assert second is not None
    assert os.read(second, 100) == b"the patch"
    assert not os.get_inheritable(second)
    os.close(second)


def test_a_message_cut_short_by_the_end_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.sendall(encode({"n": 1})[:-2])
    left.close()

    assert receive(right) is None


def test_a_length_over_the_limit_is_refused_on_both_sides(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.sendall(struct.pack(">I", LIMIT + 1))

    with pytest.raises(WireError, match="over the limit"):
        receive(right)
    with pytest.raises(WireError, match="over the limit"):
        split(bytearray(struct.pack(">I", LIMIT + 1)))
    with pytest.raises(WireError, match="over the limit"):
        encode({"text": "x" * LIMIT})


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"\xff"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode(body)


def test_the_other_end_of_a_pair_is_us(pair: tuple[socket.socket, socket.socket]) -> None:
    assert peer_is_us(pair[0])


def test_a_smaller_limit_holds_for_the_whole_stream() -> None:
    buffer = bytearray(encode({"n": 1}) + struct.pack(">I", 11))
    with pytest.raises(WireError, match="limit of 10"):
        split(buffer, limit=10)
    assert split(bytearray(encode({"n": 1})), limit=10) == [{"n": 1}]


def test_json_that_is_nested_without_end_is_no_message() -> None:
    with pytest.raises(WireError, match="not JSON"):
        decode(b"[" * 100_000)
