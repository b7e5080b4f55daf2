"""What all referees share."""

import torch

from referee_core.referees.pixels import normalise


def test_pixels_are_normalised_with_clips_statistics():
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    for c in range(3):
        expected = (images[:, c] - OPENAI_CLIP_MEAN[c]) / OPENAI_CLIP_STD[c]
        torch.testing.assert_close(normalise(images)[:, c], expected)
