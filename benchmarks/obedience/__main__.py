"""How often a picture obeys its prompt, and at what cost: the ruler for every method of this pack.

    python -m benchmarks.obedience tune                 # sampler, steps, CFG on the prompts for development
    python -m benchmarks.obedience sweep                # Referee Guidance's strength and end on the same prompts
    python -m benchmarks.obedience run [METHOD ...]     # on held-out prompts
    python -m benchmarks.obedience report               # tables and plot; the rows are kept compressed

Every picture is judged exactly. A run can be stopped at any time; the same command goes on with it.
"""

import argparse
from pathlib import Path

from scripts.environment import PACK, enter

RESULTS = PACK / "benchmarks" / "results"
SEED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "sweep", "run", "report"])
    parser.add_argument("methods", nargs="*", help="default: all")
    parser.add_argument("--prompts", type=int, default=40, help="of each category (default: 40)")
    parser.add_argument("--servers", type=int, default=2, help="ComfyUI processes side by side (default: 2)")
    parser.add_argument("--card", action="store_true", help="let them use the graphics card")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where rows, tables and plots are written")
    args = parser.parse_args()
    comfyui = enter()

    from . import cost, methods, play, prompts, report, sweep

    held_out = args.what in ("run", "report")
    known = {"tune": methods.CANDIDATES, "sweep": methods.SWEEP}.get(args.what, methods.METHODS)
    stem = args.results / {"tune": "development", "sweep": "guidance"}.get(args.what, "held-out")
    rows = stem.with_suffix(".jsonl")
    if args.what != "report":
        chosen = [known[name] for name in args.methods or known]
        scenes = {c: prompts.prompts(c, args.prompts, held_out) for c in prompts.CATEGORIES}
        # prompt by prompt, so that an unfinished run compares all methods on the same prompts
        tasks = (
            play.Task(method, scenes[category][k], SEED + 100 * k)
            for k in range(args.prompts)
            for category in prompts.CATEGORIES
            for method in chosen
        )
        play.play(tasks, rows, comfyui, args.servers, () if args.card else ("--cpu",))
    made = sorted(play.rows(rows), key=lambda row: list(known).index(row["method"]))
    if not made:
        raise SystemExit(f"There are no rows in {rows} yet: run it first.")
    if args.what == "report":
        play.pack(rows, made)
    found = {}
    for size in cost.SIZES if held_out else (cost.SD15,):
        priced = [row | {"tflop": known[row["method"]].calls(row["steps"]).price(size)} for row in made]
        found[size.name] = report.points(priced, methods.BASELINE.name)
        if not held_out:
            found[size.name] = report.alone(found[size.name])
    if held_out:
        report.plot(dict(list(found.items())[:2]), stem.with_suffix(".png"), methods.BASELINE.name)
    if args.what == "sweep":
        sweep.plot(found[cost.SD15.name], methods.SWEPT, PACK / "web" / "docs" / "images" / "guidance_sweep.png")
    report.write(found, stem)


if __name__ == "__main__":
    main()
