"""Examples at the end of the help of each command; lines of at most 74 characters, which no terminal breaks."""

from __future__ import annotations

#: By command; "dmft" for the program.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "dmft": (
        "dmft compare                     # theory over simulation, in 30 s",
        "dmft compare --dry-run           # what that would take",
        "dmft solve --help                # options and examples of a command",
        "dmft --install-completion        # once: completion in bash, zsh, fish",
    ),
    "solve": (
        "dmft solve --alpha 1 --epsilon 0.5 --kappa 5.5 --t-max 12",
        "dmft solve --config run.toml --t-max 1000 --rtol 0.02 --out results",
        "dmft solve --step 0.1 --t-max 10 --kernels    # gradient descent",
        "dmft solve --json | jq .result.grokking",
    ),
    "simulate": (
        "dmft simulate --dim 50 --t-max 10 --seeds 32",
        "dmft simulate --config run.toml --width 500 --precision float32",
        "dmft simulate --width 500 --optimizer adam --step 0.01 --t-max 10",
        "dmft simulate --t-max 1000 --checkpoint-every 60 --resume",
        "dmft simulate --preset fig4 --out paper",
    ),
    "compare": (
        "dmft compare                     # the built-in case, which groks",
        "dmft compare --alpha 1 --epsilon 0.5 --kappa 3 --dim 200 --t-max 12",
        "dmft compare --config run.toml --step 0.1 --seeds 32",
        "dmft compare --dims 100,200,400 --t-max 30",
        "dmft compare --measured run.csv --alpha 1 --epsilon 0.5 --kappa 3",
        "dmft compare --json | jq .result.observables.test_loss.verdict",
    ),
    "phase": (
        "dmft phase --x alpha=0.25:4:6:log --y kappa=1:16:6:log --out sweep",
        "dmft phase --x kappa=1,2,4,8 --dim 100 --simulate-every 2",
        "dmft phase --config sweep.toml --dry-run    # how many, how long",
        "dmft phase --config sweep.toml --retry-failed",
    ),
    "sensitivity": (
        "dmft sensitivity --alpha 1 --epsilon 0.5 --kappa 3 --t-max 20",
        "dmft sensitivity --wrt alpha,kappa,initial_overlap --threshold 0.2",
    ),
    "fit": (
        "dmft fit run.csv --alpha 1 --epsilon 0.5 --kappa 3 --dim 200",
        "dmft fit run.csv --free alpha,epsilon,time --train loss --test val",
    ),
    "report": ("dmft phase --x kappa=1,2,4 --out sweep && dmft report sweep",),
    "explore": (
        "dmft explore                     # the built-in case, live",
        "dmft explore --alpha 1 --epsilon 0.5 --kappa 3 --dim 80 --t-max 5",
        "dmft explore sweep               # of dmft phase; computes nothing",
    ),
}


def examples(command: str) -> str:
    """The end of the help of `command`."""
    return "Examples:\n" + "".join(f"\n    {line}" for line in EXAMPLES[command])
