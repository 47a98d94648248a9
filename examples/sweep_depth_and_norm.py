"""How deep can VGG be trained on digits, with and without BatchNorm? A sweep over two axes and two seeds.

Give it again with more values or seeds: only what is new is run. `runs/depth-and-norm/report/index.html` has
figures and tables by axis.
"""

import gradscape as gs

sweep = gs.Sweep(
    "depth-and-norm",
    base={"net": {"filters": 8}, "data": {"train": 200, "crop_pad": 0}, "batch_size": 20, "epochs": 2},
    axes=[{"net.depth": [8, 14]}, {"net.norm": ["none", "batch"]}],
    seeds=2,
)

if __name__ == "__main__":  # runs are processes of their own, which import this file
    record = sweep.run("runs/depth-and-norm")
    for label in record.roles:
        for run in record.of(label):
            print(f"{label} seed {run.seed}: {run.epochs[-1].valid_accuracy:.3f}, {run.flow}")
