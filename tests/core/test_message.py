from northbound.message import Message


def test_size_counts_bytes_not_characters():
    assert Message("a/b", b"12", "state", 0, True).size == 5
    assert Message("é/😀", b"", "state", 0, True).size == 7
