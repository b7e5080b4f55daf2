"""The demo's referee, second part: it goes on with pictures that networks make, those among them that fooled it first.

And with drawn pictures of the held-out numbers, about which it only hears wrong things: otherwise it takes the numbers
of which it saw pictures for all there are, and three red circles for four. Their own captions stay unseen.

Runs after the diffusion model's training. Measures itself on such pictures of held-out prompts, made anew.
"""

import random
from pathlib import Path

import torch

from . import common, made
from .pictures import paint, training_set
from .referee import Student, finish, loss_function, measure

MADE = (  # prompts: first against the referee of the first part, then against the better one that comes of that
    {"sampled": 60, "guided": 20, "optimised": 12},
    {"sampled": 60, "guided": 40, "optimised": 24},
)
NUMBERS = 2000
MEASURED = {"sampled": 16, "guided": 6, "optimised": 4}


def train(state_dir: Path, steps: int) -> None:
    student = Student().to(common.device())
    first = torch.load(state_dir / "referee.pt", weights_only=True, map_location=common.device())
    student.load_state_dict(first["average"])
    numbers = paint(random.Random("held-out numbers"), NUMBERS, held_out=True, shares={"number": 1})
    sources = [training_set(state_dir), made.noised(state_dir), numbers]
    loss_at = loss_function(student, lambda step: sources)
    for number, prompts in enumerate(MADE, start=1):
        sources.append(made.mined(state_dir / f"mined-{number}", prompts))
        common.run(f"hardened-{number}", student, steps, loss_at, peak=4e-4, state_dir=state_dir, bf16=True)
        finish(student)
    held_out = made.mined(state_dir / "measured", MEASURED, held_out=True)
    common.write_figures("referee_on_made_pictures", measure(student.blip2, held_out))
