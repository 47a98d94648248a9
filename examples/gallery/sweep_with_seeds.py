"""A sweep over seeds

VGG08 with BatchNorm on 200 digits, at three learning rates with three seeds each. Seeds of one rate differ by
as much as rates do: a single run claims nothing. The sweep goes on where it was interrupted, values and seeds
can be added, and its folder holds a report with intervals and paired tests.
"""

import gradscape as gs

sweep = gs.Sweep(
    "rates",
    base={
        "net": {"depth": 8, "filters": 8, "norm": "batch", "norm_where": "everywhere"},
        "data": {"train": 200, "crop_pad": 0},
        "batch_size": 20,
        "epochs": 3,
    },
    axes=[{"optim.lr": [1e-3, 4e-3, 16e-3]}],
    seeds=3,
)

if __name__ == "__main__":  # runs are processes of their own, which import this file
    record = sweep.run("runs/rates")
    for name, label in record.labels().items():
        print(label, *(f"{run.epochs[-1].valid_accuracy:.2f}" for run in record.of(name)))
    record.plot()
