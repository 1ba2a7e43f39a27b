"""What a variable such as CUDA_VISIBLE_DEVICES leaves of a list of GPUs."""

import pytest
from hypothesis import strategies as st

from tests.examples import given
from uvtorch.hardware.scene import select

A, B, C = "GPU-aaaa1111-0000", "GPU-aaaa2222-0000", "GPU-cccc3333-0000"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("0", (0,)),
        ("2,0", (2, 0)),
        ("0,0", (0,)),
        (" 1 , 2 ", (1, 2)),
        ("", ()),
        ("-1", ()),
        ("0,-1,2", (0,)),  # CUDA stops at the first entry that names nothing
        ("1,9,2", (1,)),
        ("99999999999999999999", ()),
        ("none", ()),
        ("NoDevFiles", ()),
        ("all", ()),
        ("0,", (0,)),
        ("\u0663", ()),  # a digit, but not one that CUDA reads
        (A, (0,)),
        (A.lower(), (0,)),
        ("GPU-cccc", (2,)),
        ("GPU-aaaa", ()),  # not unique
        ("GPU-", ()),
        (f"{C},0", (2, 0)),
        ("MIG-1234", ()),
    ],
)
def test_entries_name_gpus_as_cuda_reads_them(value: str, kept: tuple[int, ...]) -> None:
    assert select(value, [A, B, C], ordered=True) == list(kept)


def test_an_unknown_order_decides_nothing_unless_the_answer_is_certain_anyway() -> None:
    assert select("1", [A, B], ordered=False) is None
    assert select("1,0", [A, B], ordered=False) == [1, 0]
    assert select("5", [A, B], ordered=False) == []
    assert select("", [A, B], ordered=False) == []
    assert select(B, [A, B], ordered=False) == [1]


def test_a_gpu_without_a_known_uuid_is_named_by_index_only() -> None:
    assert select("GPU-aaaa1111", [None, A], ordered=True) is None
    assert select("0", [None, A], ordered=True) == [0]


@given(st.text(max_size=40), st.lists(st.sampled_from([A, B, C, None]), max_size=4, unique=True), st.booleans())
def test_any_value_gives_distinct_positions(value: str, uuids: list[str | None], ordered: bool) -> None:
    kept = select(value, uuids, ordered=ordered)
    if kept is None:
        assert not ordered or None in uuids
        return
    assert len(set(kept)) == len(kept)
    assert all(0 <= place < len(uuids) for place in kept)
