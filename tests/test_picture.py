"""The picture of features is a linear map, found from images and their tokens."""

import torch
from torch import Tensor

from unmask.detectors.ssm.picture import draw_picture, fit_picture_map


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_linear_map_is_found_from_pairs() -> None:
    tokens, truth = normal(6, 5, 4, 4), 0.03 * normal(6, 48, seed=1)
    truth[-1] = 0.5
    images = draw_picture(tokens, truth)
    found = fit_picture_map([(tokens[:4], images[:4]), (tokens[4:], images[4:])])
    assert images.shape == (6, 3, 16, 16)
    torch.testing.assert_close(draw_picture(tokens, found), images, atol=0.02, rtol=0)
    assert images.std() > 0.03
