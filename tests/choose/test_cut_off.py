"""A catalog that is some releases old leaves no GPU unusable, and names the torch that is locked."""

import pytest

from tests.choose.cut_off import RELEASES, figures


@pytest.mark.parametrize("last", RELEASES)
def test_an_old_catalog_leaves_no_gpu_unusable_and_names_the_torch_that_is_locked(last: str) -> None:
    found = figures(last)
    assert not found.unusable
    assert not found.misnamed
    assert found.machines >= 64
