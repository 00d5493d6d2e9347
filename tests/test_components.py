"""Connected regions and morphology in NumPy, against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from unmask.imaging.components import components, dilated, eroded


@pytest.mark.parametrize("seed", range(300))
def test_all_is_as_scipy_has_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 13, 2)) < random.random()
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    runs = components(mask)
    found = np.zeros(mask.shape, int)
    for row, start, end, component in zip(*runs, strict=True):
        assert start < end
        found[row, start:end] = component + 1
    assert np.array_equal(found, labels)
    assert len(set(runs.component.tolist())) == n
    assert np.array_equal(dilated(mask), ndimage.binary_dilation(mask))
    for times in (1, 2):
        assert np.array_equal(eroded(mask, times), ndimage.binary_erosion(mask, iterations=times))


def test_a_spiral_is_one_region() -> None:
    mask = np.zeros((41, 41), bool)
    y, x, dy, dx = 0, 0, 0, 1
    for length in [40, *(n for n in range(40, 0, -2) for _ in range(2))]:
        for _ in range(length):
            mask[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    assert set(components(mask).component.tolist()) == set(range(ndimage.label(mask, np.ones((3, 3)))[1]))
