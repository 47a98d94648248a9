"""A study of one's own

A claim, the runs that decide it, and a report: does tanh train better than ReLU in a small VGG08, for three
epochs? Runs are done side by side and go on where they were interrupted. The claim is judged over seeds, by
rules that refuse to decide on one.
"""

import subprocess
import sys

import gradscape as gs
from gradscape import study as st

cut = {"shrink": 5, "train": 200, "valid": 75, "measures": 0, "curvature": 0, "landscape": 0, "keep_every": 0}
quick = st.Preset(data="digits", epochs=3, augment=False, seeds=3, key_seeds=3, why="to be quick", **cut)


def roles(preset, data):
    net = {"depth": 8, "norm": "batch", "norm_where": "everywhere", "filters": 8, "init": "he"}
    run = {"optim": st.OptimConfig(lr=4e-3), "data": data, "batch_size": 20, "epochs": preset.epochs}
    nets = {name: st.NetConfig(activation=name, **net) for name in ("relu", "tanh")}
    return {st.Role(name, name): st.RunConfig(net=nets[name], **run) for name in nets}


def claims(study):
    evidence = (st.beats(study, "tanh", "relu", "train", "tanh − ReLU"),)
    yes, no = "tanh trains better than ReLU.", "tanh does not train better than ReLU."
    return [st.Claim("A1", "tanh is better", yes, "of our own", evidence, yes=yes, no=no)]


parts = st.ReportParts(figures=lambda study: [], tables=lambda study: [], claims=claims)
STUDY = st.Reproduction("activations", "tanh or ReLU?", {"quick": quick}, roles, ("tanh",), parts)
if __name__ == "__main__":
    words = ["reproduce", f"{__file__}:STUDY", "--out", "runs/activations"]
    print(subprocess.check_output([sys.executable, "-m", "gradscape", *words], text=True))
    gs.load("runs/activations").plot()
