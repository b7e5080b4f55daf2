"""BLIP-2 stage 1 (Li et al. 2023, arXiv 2301.12597) as a referee: vision tower, Q-Former, match and caption heads."""
