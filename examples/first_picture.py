"""Theory over simulation for a small network that learns a planted direction. Writes first_picture.png.

Run from anywhere with the package installed: python examples/first_picture.py
"""

from compare import grokking_delay, overlay
from dmft import Model, solve
from sim import simulate


def main() -> None:
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
    theory = solve(model, t_max=10.0)
    simulation = simulate(model.replace(dim=100), t_max=10.0, seeds=8)

    agreement = overlay(theory, simulation)
    agreement.plot("first_picture.png")
    for name, row in agreement.summary()["observables"].items():
        print(f"{name:20s} max |z| = {row['max_abs_z']:.2f}, may reach {row['threshold']:.2f}: {row['verdict']}")
    print("theory:    ", grokking_delay(theory, threshold=0.3))
    print("simulation:", grokking_delay(simulation, threshold=0.3))


if __name__ == "__main__":
    main()
